"""Calibration: the fit, the measurements, and the changes to zoo.yaml."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.cli import calibrate, run
from messctl.costs.calibration import Calibration, Trial, calibrate_model, origin
from messctl.costs.cost_line import Line
from messctl.costs.seconds import SecondsMeter
from messctl.costs.tokens import StatedMeter
from messctl.errors import UsageError
from messctl.records import Completion, Cost
from messctl.zoo import PACKAGED_FILE, CostPerToken, ModelSpec, load_zoo
from messctl.zoo.edit import edit_costs
from messctl.zoo.models import BOX

parts = st.floats(0.0, 1e3).map(lambda number: round(number, 6))
LENGTHS = [(a, b) for a in (10, 100, 1000) for b in (1, 30, 250)]


@given(fixed=parts, prompt=parts, generated=st.floats(1e-6, 1e3))
def test_an_exact_line_is_recovered(fixed, prompt, generated):
    values = [fixed + prompt * a + generated * b for a, b in LENGTHS]
    line = Line.fitted(LENGTHS, values)
    fitted = [line.fixed + line.prompt * a + line.generated * b for a, b in LENGTHS]
    assert np.allclose(fitted, values, rtol=1e-6)
    assert line.error < 1e-6


@given(st.lists(st.floats(1e-6, 1e6), min_size=9, max_size=9))
def test_fitted_parts_are_not_negative_and_the_error_is_the_relative_rms(values):
    line = Line.fitted(LENGTHS, values)
    assert min(line.fixed, line.prompt, line.generated) >= 0
    fitted = np.array([line.fixed + line.prompt * a + line.generated * b for a, b in LENGTHS])
    assert line.error == pytest.approx(np.sqrt(np.mean((fitted / values - 1) ** 2)))
    assert line.error <= 1.0  # an all-zero line has an error of 1


def test_costs_of_zero_are_refused():
    with pytest.raises(UsageError, match="cannot fit a line to costs of 0; choose another --meter"):
        Line.fitted(LENGTHS, [0.0] * 9)


class Machine:
    """Takes 0.5 s, plus 1 ms per prompt token and 10 ms per generated token. The template adds 7 tokens."""

    def __init__(self):
        self.requests = []

    def complete(self, model, question, on_text=None, on_thinking=None):
        assert question.to_the_limit
        fresh = not self.requests
        tokens = 7 + 2 * len(question.prompt.split())
        self.requests.append((tokens, question.max_tokens))
        seconds = 0.5 + 0.001 * tokens + 0.01 * question.max_tokens
        return Completion(model.name, "x", tokens, question.max_tokens, seconds, 3.0 if fresh else 0.0, "length")

    def close(self):
        pass


def test_a_model_is_measured_over_a_range_of_lengths():
    model, machine, done = ModelSpec("m", Path("m"), n_ctx=4096, max_tokens=200), Machine(), []
    found = calibrate_model(model, machine, SecondsMeter(), repeats=2, least_s=1.2, on_measured=lambda: done.append(1))
    assert (found.model, found.unit, found.load_s, found.quality) == ("m", "s", 3.0, "measured")
    assert len(found.trials) == len(done) == 18
    lengths = {(trial.tokens_in, trial.tokens_out) for trial in found.trials}
    assert len(lengths) == 9
    assert max(a for a, _ in lengths) == 7 + 1024
    assert max(b for _, b in lengths) == 200
    assert len(machine.requests) > 20  # short requests are repeated
    assert (found.cost.fixed, found.cost.prompt, found.cost.generated) == pytest.approx((0.5, 0.001, 0.01))
    assert found.load == pytest.approx(3.0)  # part of the measured time, but not of the fitted cost
    assert found.cost_per_token("here") == CostPerToken("s", 0.001, 0.01, 0.5, 3.0, measured="here")
    assert found.cost.error < 1e-9
    small = calibrate_model(ModelSpec("m", Path("m"), n_ctx=128), Machine(), SecondsMeter(), repeats=1, least_s=0)
    assert max(a + b for a, b in ((t.tokens_in, t.tokens_out) for t in small.trials)) <= 128


def test_origin_names_the_machine_the_day_and_the_meter():
    text = origin(StatedMeter("J"), date(2026, 1, 2))
    assert text.endswith(", 2026-01-02, stated: J per prompt token and per generated token, from zoo.yaml")


ZOO = """\
# mine
models:
  - name: a   # small
    path: a.gguf
    cost: &c {unit: J, prompt: 1, generated: 1}  # guessed
  - name: b
    path: b.gguf
    cost: *c
sla: {alpha: 0.7}
"""


def test_costs_are_written_and_the_rest_of_zoo_yaml_stays(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOO)
    before, after = edit_costs(path, {"b": CostPerToken("J", 0.5, 2.0, 0.25, measured="here, today")})
    assert before == ZOO
    path.write_text(after)
    a, b = load_zoo(path).models
    assert (a.cost, b.cost) == (CostPerToken("J", 1, 1), CostPerToken("J", 0.5, 2.0, 0.25, measured="here, today"))
    for comment in ("# mine", "# small", "# guessed"):
        assert comment in after
    assert load_zoo(path).settings.alpha == 0.7


def test_a_cost_is_not_written_after_commented_examples(tmp_path):
    """An example that is uncommented later must not get another model's cost."""
    path, examples = tmp_path / "zoo.yaml", "# models:\n#   - name: c\n#     path: c.gguf\n"
    path.write_text(f"models:\n  - name: a\n    path: a.gguf\n{examples}")
    _, after = edit_costs(path, {"a": CostPerToken("J", 2.0, 3.0)})
    assert after.endswith(examples)
    path.write_text(after)
    assert load_zoo(path).models[0].cost == CostPerToken("J", 2.0, 3.0)


def test_a_stated_load_cost_in_another_unit_is_removed(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text("models:\n- {name: a, path: a, cost: {unit: USD, prompt: 1, generated: 1, load: 7}}\n")
    for unit, load in (("USD", 7.0), ("s", None)):
        _, after = edit_costs(path, {"a": CostPerToken(unit, 2.0, 3.0)})
        path.write_text(after)
        assert load_zoo(path).models[0].cost == CostPerToken(unit, 2.0, 3.0, load=load)


@pytest.fixture
def zoo(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text(
        "defaults: {n_ctx: 0, max_tokens: 16}\nmodels:  # two\n"
        "  - {name: pico, path: 'box:pico-34k.gguf'}\n  - {name: nano, path: 'box:nano-109k.gguf'}\n"
    )
    return path


QUICK = ["--repeats", "1", "--seconds", "0", "--prompt-tokens", "64"]


def test_calibrate_writes_measured_costs(zoo, capsys):
    pytest.importorskip("llama_cpp")
    text = zoo.read_text()
    command = ["zoo", "calibrate", "--zoo", str(zoo), "--meter", "seconds", *QUICK]
    assert run([*command, "-o", str(zoo), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "tokens/s" in out
    assert "+++ " in out
    assert zoo.read_text() == text
    assert run([*command, "--json", "-o", str(zoo)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["model"] for each in document["models"]] == ["pico", "nano"]
    costs = [model.cost for model in load_zoo(zoo).models]
    assert {cost.unit for cost in costs} == {"s"}
    assert {cost.measured for cost in costs} == {document["measured"]}
    assert all(cost.generated > 0 for cost in costs)
    assert "# two" in zoo.read_text()


@pytest.mark.parametrize("width", [80, 160])
def test_a_load_is_shown_in_seconds_and_in_the_unit_of_costs(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = {"cost": Line(0.123456, 1.23456e-6, 2.5e-6, 0.12), "seconds": Line(0.0, 1e-6, 0.001, 0.0)}
    trials = [(Trial(1, 1, Cost(1.0, quality), 1.0),) for quality in ("measured", "shared")]
    loads = (("tiny", 0.0012345, 0.25), ("large", 12.3456, 1234.5), ("larger-than-all", 0.0, None))
    for of_each, known in (
        ((0, 0, 0), "measured"),
        ((0, 1, 0), "tiny measured; large shared; larger-than-all measured"),
    ):
        found = [
            Calibration(name, "J", load_s, load=load, trials=trials[each], **lines)
            for (name, load_s, load), each in zip(loads, of_each, strict=True)
        ]
        calibrate._print(found, "here")
        out = capsys.readouterr().out
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(("tiny", "large "))}
        costs = ["1,000,000", "1,000", "0.123", "1.23e-06", "2.5e-06"]
        assert rows == {"tiny": ["0.00123", *costs, "0.25", "12.0%"], "large": ["12.3", *costs, "1.23e+03", "12.0%"]}
        assert " – 12.0%" in out
        assert out.endswith(f"here; quality of the costs: {known}\n")
        assert max(map(len, out.splitlines()[:-1])) <= width


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("sla: {alpha: 0.7}\n", "lists no models"),
        ("models: [{name: pico, path: x}]\n", "unknown model 'nano'"),
        ("models: [{name: pico, path: x}, {name: nano, path: x}, {name: more, path: x}]\n", "'more' is not measured"),
    ],
)
def test_another_zoo_file_must_have_the_same_models(zoo, tmp_path, capsys, other, message):
    (tmp_path / "other.yaml").write_text(other)
    command = ["zoo", "calibrate", "--zoo", str(zoo), "--meter", "seconds", *QUICK, "-o"]
    assert run([*command, str(tmp_path / "other.yaml")]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "other.yaml").read_text() == other


def test_a_zoo_file_written_to_another_folder_finds_its_models(zoo, tmp_path, capsys):
    pytest.importorskip("llama_cpp")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "p.gguf").symlink_to(BOX / "pico-34k.gguf")
    zoo.write_text(zoo.read_text().replace("'box:pico-34k.gguf'", "models/p.gguf"))
    (tmp_path / "sub").mkdir()
    new = str(tmp_path / "sub" / "new.yaml")
    command = ["zoo", "calibrate", "--zoo", str(zoo), "--meter", "seconds", *QUICK, "-o", new]
    assert run([*command, "--dry-run", "--json"]) == 0
    assert "path: ../models/p.gguf" in json.loads(capsys.readouterr().out)["diff"]
    assert run(command) == 0
    assert run(["zoo", "check", "--zoo", new]) == 0


def test_calibration_by_flops_returns_the_estimate(zoo, capsys):
    pytest.importorskip("llama_cpp")
    assert run(["zoo", "calibrate", "--zoo", str(zoo), "--meter", "flops", "--json", *QUICK]) == 0
    for each in json.loads(capsys.readouterr().out)["models"]:
        assert (each["fixed"], each["cost_quality"]) == (pytest.approx(0, abs=1e-9), "estimated")
        assert each["prompt"] == pytest.approx(each["generated"])
        assert each["error"] < 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dry-run"], "--dry-run shows what -o would change; add -o zoo.yaml"),
        (["--meter", "joules"], "unknown meter 'joules'"),
        (["--model", "pica"], "unknown model 'pica' (did you mean 'pico'?)"),
        (
            ["--model", "pico", "--meter", "seconds", "-o", "x.yaml"],
            "model 'nano' is not measured and has no cost in s",
        ),
        (["--meter", "rapl"], "has no counter"),
    ],
)
def test_calibrate_refuses_bad_options(zoo, capsys, monkeypatch, tmp_path, options, message):
    from messctl.costs import meter_choice, rapl

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(meter_choice, "rapl_counters", lambda: rapl.rapl_counters(tmp_path))
    assert run(["zoo", "calibrate", "--zoo", str(zoo), *QUICK, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_model_file_is_reported(tmp_path, capsys):
    pytest.importorskip("llama_cpp")
    (tmp_path / "zoo.yaml").write_text("models: [{name: a, path: a.gguf}]\n")
    assert run(["zoo", "calibrate", "--zoo", str(tmp_path / "zoo.yaml"), "--meter", "seconds", *QUICK]) == 2
    assert "there is no such model file" in capsys.readouterr().err


def test_the_packaged_zoo_has_no_measured_costs():
    """Measured costs are valid for one machine only."""
    assert {model.cost for model in load_zoo(PACKAGED_FILE).models} == {None}
