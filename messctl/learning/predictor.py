"""The predictor: for each model, an online logistic regression of satisfaction on a prompt's features.

The arithmetic is that of scikit-learn's `SGDClassifier(loss="log_loss")` with `learning_rate="invscaling"`,
stepped once per label; labels may also be graded, anywhere in 0..1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import compiled
from messctl.learning.features import Features

STEP = 0.3
"""Length of the first step; the t-th step of a model has length STEP / t^DECAY."""
DECAY = 0.25
"""See STEP."""
SHRINKAGE = 1e-3
"""L2 penalty on the weights, but not on the bias."""
LARGEST_EXPONENT = 700.0
"""e to the power of more is too large for a float."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The predictor's state: `weight` (models, features), `bias` and the count of `steps` (models,)."""

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    steps: npt.NDArray[np.int64]

    @classmethod
    def zero(cls, models: int, width: int) -> Weights:
        """Return the state before any learning, in which every prediction is 0.5."""
        return cls(np.zeros((models, width)), np.zeros(models), np.zeros(models, dtype=np.int64))

    def predict(self, features: Features, row: int = 0) -> npt.NDArray[np.float64]:
        """Return the predicted satisfaction of one row by each model, (models,) in 0..1."""
        predicted = np.empty(len(self.bias))
        part = slice(features.starts[row], features.starts[row + 1])
        predict(self.weight, self.bias, features.indices[part], features.values[part], predicted)
        return predicted

    def step(self, model: int, features: Features, satisfied: float, row: int = 0) -> None:
        """Learn one label of one model, in place."""
        part = slice(features.starts[row], features.starts[row + 1])
        step(
            self.weight,
            self.bias,
            self.steps,
            model,
            features.indices[part],
            features.values[part],
            satisfied,
        )


@compiled
def sigmoid(z: float) -> float:
    """Return 1 / (1 + e^−z)."""
    return 1.0 / (1.0 + math.exp(min(-z, LARGEST_EXPONENT)))


@compiled
def linear(
    weight: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    model: int,
    indices: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
) -> float:
    """Return w·x + b of one model on one sparse row."""
    total = 0.0
    for at in range(len(indices)):
        total += weight[model, indices[at]] * np.float64(values[at])
    return total + bias[model]


@compiled
def predict(
    weight: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    indices: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    predicted: npt.NDArray[np.float64],
) -> None:
    """Write each model's predicted satisfaction on one sparse row into `predicted` (models,)."""
    for model in range(len(bias)):
        predicted[model] = sigmoid(linear(weight, bias, model, indices, values))


@compiled
def step(
    weight: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
    model: int,
    indices: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    satisfied: float,
) -> None:
    """Take one gradient step of `model` on the logistic loss of one label (0..1), in place."""
    steps[model] += 1
    rate = STEP / math.pow(steps[model], DECAY)
    slope = sigmoid(linear(weight, bias, model, indices, values)) - satisfied
    weight[model] *= 1.0 - rate * SHRINKAGE
    for at in range(len(indices)):
        weight[model, indices[at]] -= rate * slope * np.float64(values[at])
    bias[model] -= rate * slope
