import numpy as np
import pyarrow as pa
import pytest
from making import prompts_for
from sklearn.linear_model import SGDClassifier

from messctl.learning.features import encode
from messctl.learning.predictor import DECAY, SHRINKAGE, STEP, Weights


@pytest.mark.slow
def test_every_step_equals_that_of_scikit_learn():
    n = 300
    features = encode(pa.array(prompts_for(n), pa.large_string()))
    labels = (np.random.default_rng(1).random((n, 2)) < [0.3, 0.8]).astype(float)
    mine = Weights.zero(2, features.width)
    theirs = [
        SGDClassifier(
            loss="log_loss",
            learning_rate="invscaling",
            eta0=STEP,
            power_t=DECAY,
            alpha=SHRINKAGE,
            shuffle=False,
        )
        for _ in range(2)
    ]
    dense = features.csr().toarray()
    for row in range(n):
        for model, sgd in enumerate(theirs):
            mine.step(model, features, labels[row, model], row)
            sgd.partial_fit(dense[row : row + 1], labels[row, model : model + 1], classes=[0.0, 1.0])
            assert mine.weight[model] == pytest.approx(sgd.coef_[0], abs=1e-12)
            assert mine.bias[model] == pytest.approx(sgd.intercept_[0], abs=1e-12)
        expected = [sgd.predict_proba(dense[row : row + 1])[0, 1] for sgd in theirs]
        assert mine.predict(features, row) == pytest.approx(expected, abs=1e-12)
    assert mine.steps.tolist() == [n, n]


def test_a_graded_label_moves_the_prediction_between_those_of_0_and_1():
    features = encode(pa.array(["what is it"], pa.large_string()))
    after = []
    for label in (0.0, 0.4, 1.0):
        weights = Weights.zero(1, features.width)
        weights.step(0, features, label)
        after.append(weights.predict(features)[0])
    assert after[0] < after[1] < 0.5 < after[2]


def test_a_prompt_among_others_is_predicted_as_if_it_were_alone():
    prompts = ["what is it", "who was that", "seven and eight"]
    features = encode(pa.array(prompts, pa.large_string()))
    weights = Weights.zero(2, features.width)
    for row in range(3):
        weights.step(row % 2, features, 1.0 - row / 2, row)
    alone = [weights.predict(encode(pa.array([prompt], pa.large_string()))).tolist() for prompt in prompts]
    assert [weights.predict(features, row).tolist() for row in range(3)] == alone
    assert len({one for one, _ in alone}) == 3


def test_every_prediction_is_one_half_before_any_step():
    features = encode(pa.array(["anything"], pa.large_string()))
    assert Weights.zero(3, features.width).predict(features).tolist() == [0.5] * 3
