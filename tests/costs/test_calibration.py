"""Calibration: the fit, the measurements, and the changes to zoo.yaml."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit

from messctl.cli import calibrate, calibration_table, run
from messctl.costs.bench import Trial
from messctl.costs.calibration import Calibration, calibrate_model, indistinct, origin
from messctl.costs.cost_line import Line
from messctl.costs.intervals import Estimate, jackknife, median
from messctl.costs.measured_line import MeasuredLine
from messctl.costs.seconds import SecondsMeter
from messctl.costs.tokens import FlopsMeter, StatedMeter
from messctl.errors import BackendError, UsageError
from messctl.records import Completion, Cost
from messctl.zoo import PACKAGED_FILE, CostPerToken, ModelSpec, load_zoo
from messctl.zoo.cost_notes import with_notes
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
    """Takes 0.5 s, plus 1 ms per prompt token and 10 ms per generated token, times `noise()`; a load takes 3 s.

    The template adds 7 tokens. Its clock moves only while it works.
    """

    def __init__(self, noise=lambda: 1.0, parts=(0.5, 0.001, 0.01), load=lambda: 3.0):
        self.now = 0.0
        self.parts, self.noise, self.load_s = parts, noise, load
        self.lengths, self.loads = [], 0

    def clock(self):
        return self.now

    def complete(self, model, question, on_text=None):
        assert question.to_the_limit
        tokens = 7 + 2 * len(question.prompt.split())
        self.lengths.append((tokens, question.max_tokens))
        fixed, prompt, generated = self.parts
        seconds = (fixed + prompt * tokens + generated * question.max_tokens) * self.noise()
        self.now += seconds
        return Completion(model.name, "x", tokens, question.max_tokens, seconds, 0.0, "length")

    def load(self, model):
        self.loads += 1
        self.now += self.load_s()

    def close(self):
        self.now += 0.1


MODEL = ModelSpec("m", BOX / "pico-34k.gguf", n_ctx=4096)


def calibrated(machine, model=MODEL, meter=None, **options):
    return calibrate_model(model, machine, meter or SecondsMeter(), clock=machine.clock, **options)


def lognormal(seed, sigma):
    draw = np.random.default_rng(seed)
    return lambda: float(draw.lognormal(0.0, sigma))


def test_an_exact_machine_is_measured_exactly():
    machine, seen = Machine(), []
    found = calibrated(machine, limit_s=1e4, on_round=seen.append)
    assert (found.model, found.unit, found.quality) == ("m", "s", "measured")
    parts = (found.cost.fixed, found.cost.prompt, found.cost.generated)
    assert [part.value for part in parts] == pytest.approx([0.5, 0.001, 0.01])
    assert max(found.widths.values()) < 1e-6
    assert len(found.rounds) == len(seen) == 4
    assert found.cost_per_token("here") == CostPerToken("s", 0.001, 0.01, 0.5, 3.0, measured="here")
    lengths = {(trial.tokens_in, trial.tokens_out) for each in found.rounds for trial in each}
    assert len(lengths) == 6
    assert max(a for a, _ in lengths) == 7 + 1024
    assert max(b for _, b in lengths) == 128


def test_prompts_grow_as_long_as_the_time_allows():
    longest = []
    for limit_s in (20, 80, 110, 200):
        found = calibrated(Machine(), limit_s=limit_s)
        longest.append(max(trial.tokens_in for each in found.rounds for trial in each))
    assert longest == sorted(longest)
    assert len(set(longest)) >= 3
    assert longest[-1] == 7 + 1024


def test_loading_is_measured_by_itself():
    machine = Machine(parts=(50.0, 0.1, 1.0), load=lambda: 0.02)
    found = calibrated(machine, limit_s=1e5)
    assert found.load.value == found.load_s.value == pytest.approx(0.02)
    assert found.load.half == pytest.approx(0.0)


def test_one_slow_load_does_not_count():
    times = iter([30.0, *[3.0] * 200])
    found = calibrated(Machine(load=lambda: next(times)), limit_s=1e4)
    assert (found.load.value, found.load.half) == (3.0, 0.0)


def test_a_load_that_stays_uncertain_is_measured_again():
    noise = lognormal(1, 0.4)
    machine = Machine(load=lambda: 3.0 * noise())
    found = calibrated(machine, limit_s=1e4)
    assert machine.loads > 20
    assert found.load.share <= 0.1
    assert abs(found.load.value - 3.0) <= 2 * found.load.half


def test_a_meter_that_counts_tokens_gives_loads_no_cost():
    found = calibrated(Machine(), meter=FlopsMeter(1e10), limit_s=1e4)
    assert found.load is None
    assert found.load_s.value == pytest.approx(3.0)
    assert found.cost.prompt.value == pytest.approx(found.cost.generated.value)
    assert found.cost.fixed.value == 0.0
    assert max(found.widths.values()) < 1e-6


def test_a_load_that_is_too_short_for_the_counter_has_no_cost():
    class Counter(SecondsMeter):
        def cost(self, model, completion):
            if not completion.tokens_out:
                raise BackendError("too short")
            return SecondsMeter.cost(self, model, completion)

    assert calibrated(Machine(), meter=Counter(), limit_s=1e4).load is None


TRUE = (0.5, 0.001, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.03, 0.1, 0.15])
def test_intervals_hold_the_true_costs_and_are_narrow_in_the_end(sigma):
    runs = [calibrated(Machine(lognormal(seed, sigma)), limit_s=1e5, seed=seed) for seed in range(30)]
    assert all(run.wider_than(0.1) == {} for run in runs)
    mean = float(np.exp(-(sigma**2)))  # residuals are relative, so the fit is nearer to the harmonic mean
    for part, true in zip(("fixed", "prompt", "generated"), TRUE, strict=True):
        held = [abs(each.value - true * mean) <= each.half for each in (getattr(run.cost, part) for run in runs)]
        assert sum(held) >= 25


def test_more_noise_takes_more_rounds():
    rounds = [
        np.mean([len(calibrated(Machine(lognormal(seed, sigma)), limit_s=1e5).rounds) for seed in range(5)])
        for sigma in (0.01, 0.1, 0.2)
    ]
    assert rounds[0] == 4
    assert rounds == sorted(rounds)


@pytest.mark.parametrize("limit_s", [60, 200, 1000])
def test_the_time_is_kept_and_what_stays_wide_is_said(limit_s):
    machine = Machine(lognormal(3, 0.8))
    found = calibrated(machine, limit_s=limit_s)
    assert machine.now <= limit_s + 30
    assert found.wider_than(0.1)
    assert set(found.wider_than(0.1)) <= {"per request", "per prompt token", "per generated token", "per load"}


def test_one_round_tells_nothing_about_its_noise():
    found = calibrated(Machine(), limit_s=1e4, most_rounds=1)
    assert found.wider_than(0.2) == dict.fromkeys(("per request", "per prompt token", "per generated token"), math.inf)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.6])
def test_a_small_model_reads_no_slower_than_a_large_one_unless_that_is_said(sigma):
    """The larger model takes twice the time per token; with much noise and little time they may be confused."""
    specs = [ModelSpec(name, BOX / f"{name}.gguf", n_ctx=4096) for name in ("nano-109k", "mini-1m")]
    silent = 0
    for seed in range(20):
        small, large = (
            calibrated(Machine(lognormal((seed, place), sigma), parts), spec, limit_s=150)
            for place, (spec, parts) in enumerate(zip(specs, ((0.5, 0.001, 0.01), (0.5, 0.002, 0.02)), strict=True))
        )
        confused = small.cost.prompt.value > large.cost.prompt.value
        said = ("nano-109k", "mini-1m", "per prompt token") in indistinct([large, small])
        silent += confused and not said and not (small.wider_than(0.2) or large.wider_than(0.2))
    assert silent == 0


def test_a_small_context_is_enough():
    machine = Machine()
    calibrated(machine, replace(MODEL, n_ctx=128), limit_s=1e4)
    assert max(a + b for a, b in machine.lengths) <= 128


@given(st.lists(st.floats(0.5, 2.0), min_size=2, max_size=12))
def test_the_jackknife_of_a_mean_is_students_interval(values):
    without = [[np.mean(values[:i] + values[i + 1 :])] for i in range(len(values))]
    (half,) = jackknife(np.array(without))
    assert half == pytest.approx(stdtrit(len(values) - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize(
    ("values", "value", "half"),
    [
        ([2.0], 2.0, math.inf),
        ([1.0, 3.0], 2.0, 12.706),
        ([5.0, 1.0, 2.0, 4.0, 3.0, 6.0], 3.5, 2.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 1e9], 5.0, 3.0),
    ],
)
def test_a_median_has_the_interval_of_its_ranks(values, value, half):
    found = median(values)
    assert (found.value, found.half) == (value, pytest.approx(half, rel=1e-4))


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


QUICK = ["--time", "1s", "--seconds", "0", "--prompt-tokens", "64", "--force"]


def made(model, *, prompt=0.05, load=0.05, value=0.001, parameters=1, quality="measured"):
    """Return a calibration whose costs have these widths, as shares."""
    width = {"fixed": 0.05, "prompt": prompt, "generated": 0.05}
    line = MeasuredLine(Line(value, value, value, 0.01), *(Estimate(value, share * value) for share in width.values()))
    trial = Trial(1, 1, Cost(1.0, quality), 1.0)
    return Calibration(
        model, "s", Estimate(2.0, 0.1), line, line, ((trial,),) * 4, Estimate(2.0, 2.0 * load), parameters
    )


@pytest.fixture
def measured(monkeypatch):
    """Replace what is measured by what a test says, model by model; return the options that were passed on."""
    passed = []

    def of(**by_model):
        def calibrate_model(spec, backend, meter, **options):
            passed.append(options)
            return by_model[spec.name]

        monkeypatch.setattr("messctl.costs.calibration.calibrate_model", calibrate_model)
        monkeypatch.setattr("messctl.cli.calibrate._start_up", lambda spec: None)
        return passed

    return of


COMMAND = ["zoo", "calibrate", "--meter", "seconds"]


def test_narrow_costs_are_written_without_a_word(zoo, capsys, measured):
    measured(pico=made("pico"), nano=made("nano"))
    assert run([*COMMAND, "--zoo", str(zoo), "-o", str(zoo)]) == 0
    assert capsys.readouterr().err == ""
    assert {model.cost.prompt for model in load_zoo(zoo).models} == {0.001}
    assert "known to" not in zoo.read_text()


def test_wide_costs_are_written_with_a_comment_and_a_warning(zoo, capsys, measured):
    measured(pico=made("pico", prompt=0.14, load=0.18), nano=made("nano"))
    assert run([*COMMAND, "--zoo", str(zoo), "-o", str(zoo)]) == 0
    assert capsys.readouterr().err == (
        "messctl: warning: model 'pico': the cost is known to ± 14 % per prompt token, ± 18 % per load only; "
        "give more --time, or stop other programs\n"
    )
    (line,) = [line for line in zoo.read_text().splitlines() if "known to" in line]
    assert line.endswith("  # known to ± 14 % per prompt token, ± 18 % per load")
    assert "name: pico" in line
    assert load_zoo(zoo).model("pico").cost.prompt == 0.001
    measured(pico=made("pico"), nano=made("nano"))
    assert run([*COMMAND, "--zoo", str(zoo), "-o", str(zoo)]) == 0
    assert "known to" not in zoo.read_text()


@pytest.mark.parametrize("width", [0.44, math.inf])
def test_costs_that_are_hardly_known_are_not_written_without_force(zoo, capsys, measured, width):
    measured(pico=made("pico", prompt=width), nano=made("nano"))
    text, shown = zoo.read_text(), "± 44 %" if width < 1 else "± ?"
    assert run([*COMMAND, "--zoo", str(zoo), "-o", str(zoo)]) == 2
    out, err = capsys.readouterr()
    assert "0.001" in out
    assert err.splitlines()[-1] == (
        f"messctl: {zoo} is not written, as costs are not known well enough (pico: {shown} per prompt token); "
        "give more --time, stop other programs, or add --force"
    )
    assert zoo.read_text() == text
    assert run([*COMMAND, "--zoo", str(zoo), "-o", str(zoo), "--force"]) == 0
    assert f"# known to {shown} per prompt token" in zoo.read_text()
    assert load_zoo(zoo).model("pico").cost.prompt == 0.001


def test_wide_costs_without_output_are_only_said(zoo, capsys, measured):
    measured(pico=made("pico", prompt=0.9), nano=made("nano"))
    assert run([*COMMAND, "--zoo", str(zoo), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "± 90 % per prompt token" in err
    first = json.loads(out)["models"][0]
    assert (first["prompt_width"], first["load_width"], first["rounds"]) == (pytest.approx(0.9), pytest.approx(0.05), 4)


def test_models_that_cannot_be_told_apart_are_named(zoo, capsys, measured):
    measured(pico=made("pico", value=0.00102, parameters=1), nano=made("nano", value=0.001, parameters=2))
    assert run([*COMMAND, "--zoo", str(zoo)]) == 0
    err = capsys.readouterr().err
    assert "models 'pico' and 'nano': the smaller one seems to cost more per prompt token" in err
    measured(pico=made("pico", value=0.002, parameters=1), nano=made("nano", value=0.001, parameters=2))
    assert run([*COMMAND, "--zoo", str(zoo)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ([], [60.0, 120.0]),
        (["--model", "pico"], [120.0]),
        (["--time", "5m"], [150.0, 300.0]),
        (["--time", "90"], [45.0, 90.0]),
    ],
)
def test_each_model_may_take_its_share_of_the_time_that_is_left(zoo, measured, options, limits):
    passed = measured(pico=made("pico"), nano=made("nano"))
    assert run([*COMMAND, "--zoo", str(zoo), *options]) == 0
    assert [each["limit_s"] for each in passed] == pytest.approx(limits, rel=0.05)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("2m", 120), ("1h30m", 5400), ("1m30s", 90), ("1m30", 90), (" 2M ", 120)],
)
def test_a_time_is_read(text, seconds):
    assert calibrate.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "soon", "2 days", "nan", "inf", "m", "1e3", "9" * 400])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="must be a time above 0, such as 90s"):
        calibrate.seconds_of(text)


MARKED = [
    ("- name: a\n  cost:\n    unit: s\n    prompt: 1\n", "- name: a\n  cost:  # N\n    unit: s\n    prompt: 1\n"),
    ("- name: a\n  cost: {unit: s}\n", "- name: a\n  cost: {unit: s}  # N\n"),
    ("- name: a\n  cost: {unit: s}  # mine\n", "- name: a\n  cost: {unit: s}  # mine  # N\n"),
    ("- name: a\n  cost: {unit: s}  # known to ± 5 % per load\n", "- name: a\n  cost: {unit: s}  # N\n"),
    ("- name: a\n  cost: {unit: s}  # estimated from its parameters\n", "- name: a\n  cost: {unit: s}  # N\n"),
    ("- name: a\n  cost: {unit: s}  # mine  # known to ± ? x\n", "- name: a\n  cost: {unit: s}  # mine  # N\n"),
    ("- {name: a, cost: {unit: s}}\n", "- {name: a, cost: {unit: s}}  # N\n"),
    ("- {name: a, cost: {unit: s},\n   path: x}\n", "- {name: a, cost: {unit: s},  # N\n   path: x}\n"),
    ("- name: a\n  cost: &c {unit: s}\n", "- name: a\n  cost: &c {unit: s}  # N\n"),
    ("- name: a\n  cost: {unit: s}\r\n", "- name: a\n  cost: {unit: s}  # N\r\n"),
    ("- name: a\n  cost: {unit: s}", "- name: a\n  cost: {unit: s}  # N"),
    ("- {name: a, cost: {unit: s}, system: 'x\n   y'}\n", "- {name: a, cost: {unit: s}, system: 'x\n   y'}\n"),
    ("- name: a\n  path: x\n", "- name: a\n  path: x\n"),
    ("- name: b\n  cost: {unit: s}\n", "- name: b\n  cost: {unit: s}\n"),
]


@pytest.mark.parametrize(("before", "after"), MARKED)
def test_a_note_is_put_beside_a_cost(before, after):
    assert with_notes(f"models:\n{before}", {"a": "N"}) == f"models:\n{after}"


@pytest.mark.parametrize(("before", "after"), MARKED)
def test_a_note_of_messctl_is_removed_and_another_comment_stays(before, after):
    noted = with_notes(f"models:\n{before}", {"a": "known to ± 5 % per load"})
    removed = with_notes(noted, {"a": ""})
    assert "known to" not in removed
    assert ("mine" in removed) is ("mine" in before)


def test_costs_of_zoo_init_are_replaced_by_measured_ones(tmp_path, capsys, monkeypatch, measured):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("pico-34k", "nano-109k"):
        (tmp_path / f"{name}.gguf").symlink_to(BOX / f"{name}.gguf")
    assert run(["zoo", "init", "--yes", "--model", "*k"]) == 0
    measured(**{name: made(name) for name in ("pico-34k", "nano-109k")})
    assert run([*COMMAND, "-o", "zoo.yaml"]) == 0
    text = (tmp_path / "zoo.yaml").read_text()
    assert "estimated: true}" not in text
    assert "estimated from" not in text
    assert all(model.cost.measured and not model.cost.estimated for model in load_zoo(None).models)


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
    assert all(cost.load > 0 for cost in costs)
    assert "# two" in zoo.read_text()


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_shows_intervals_and_fits_the_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    found = [made("tiny", value=1.23456e-6), made("large", prompt=math.inf, value=0.002, quality="shared")]
    calibration_table.show(found, "here")
    out = capsys.readouterr().out
    for cell in ("1.23e-06 ±5%", "810,005 ±5%", "0.002 ±?", "500 ±5%", "2 ±5%"):
        assert cell in out
    assert out.endswith("here; quality of the costs: tiny measured; large shared\n")
    assert max(map(len, out.splitlines()[:-2])) <= width


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
    assert run(["zoo", "calibrate", "--zoo", str(zoo), "--meter", "flops", "--json", *QUICK[:-1]]) == 0
    for each in json.loads(capsys.readouterr().out)["models"]:
        assert (each["fixed"], each["cost_quality"]) == (pytest.approx(0, abs=1e-9), "estimated")
        assert each["prompt"] == pytest.approx(each["generated"])
        assert each["error"] < 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dry-run"], "--dry-run is about what -o would change; add -o zoo.yaml"),
        (["--force"], "--force is about what -o would change; add -o zoo.yaml"),
        (["--time", "soon"], "--time is 'soon'; it must be a time above 0"),
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
    assert run(["zoo", "calibrate", "--zoo", str(zoo), *QUICK[:-1], *options]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_model_file_is_reported(tmp_path, capsys):
    pytest.importorskip("llama_cpp")
    (tmp_path / "zoo.yaml").write_text("models: [{name: a, path: a.gguf}]\n")
    assert run(["zoo", "calibrate", "--zoo", str(tmp_path / "zoo.yaml"), "--meter", "seconds", *QUICK[:-1]]) == 2
    assert "there is no such model file" in capsys.readouterr().err


def test_the_packaged_zoo_has_no_measured_costs():
    """Measured costs are valid for one machine only."""
    assert {model.cost for model in load_zoo(PACKAGED_FILE).models} == {None}
