import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from making import learnable, write_trace

from messctl.cli import run
from messctl.cli import tune as command_of
from messctl.zoo import load_settings
from messctl.zoo.edit import edit_settings

FEW = ["--policy", "messplus", "--margin", "0", "--v", "0.01,0.3,3", "--c", "0.1,0.5", "--seeds", "3"]


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    rounds = learnable(600)
    rows = [
        {model: (rounds.satisfied[row, k], rounds.cost[row, k]) for k, model in enumerate(rounds.zoo.models)}
        for row in range(600)
    ]
    return str(write_trace(tmp_path_factory.mktemp("trace") / "t.parquet", rows, models=rounds.zoo.models))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Run in a folder without a zoo.yaml."""
    monkeypatch.chdir(tmp_path)


def test_the_help_fits_one_screen_in_panels(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["tune", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert all(f"─ {panel} ─" in text for panel in ("Promise", "Policy", "Search", "Requests", "Output"))
    assert "[x<=" not in text


def test_the_table_has_the_front_the_yardsticks_and_a_replay_command(trace, capsys):
    assert run(["tune", trace, "--alpha", "0.8", *FEW]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in (
        "static-mix",
        "hindsight",
        "clairvoyant",
        "→ messplus, V = ",
        "÷ static-mix",
        "Q/n",
        "held out: the last 30%",
    ):
        assert word in out
    command = next(line.strip() for line in out.splitlines() if line.strip().startswith("messctl replay"))
    attained = next(line.split()[3] for line in out.splitlines() if line.startswith("  all requests: attains"))
    assert run([*command.split()[1:], "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert f"{float(row['attained']):.4f}" == attained


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "warns"), [("1", True), ("2", False)])
@pytest.mark.parametrize("more", [(), ("--csv",), ("--json",)])
def test_a_single_seed_gets_a_warning(seeds, warns, more, trace, capsys):
    assert run(["tune", trace, "--alpha", "0.7", *FEW[:-1], seeds, "--slack", "0.5", *more]) == 0
    assert ("one seed gives no confidence; play more seeds, as with --seeds 10" in capsys.readouterr().err) == warns


def replayed(command, capsys):
    """Run a printed command as a shell does, and return the attainment and cost that it prints."""
    capsys.readouterr()
    assert run([*shlex.split(command)[1:], "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    return result["attained"], result["mean_cost"]


OTHERWISE = (
    "sla: {alpha: 0.7}\n"
    "router: {policy: messplus, v: 9, margin: 0.05, c: 0.3, exponent: 0.7, seed: 7, cost_scale: 3, trial_budget: 0.2}\n"
)
MESSPLUS, BANDIT = FEW, ["--policy", "bandit", "--v", "auto,0.3", "--margin", "0", "--seeds", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("known", ["", OTHERWISE])
@pytest.mark.parametrize(
    "options",
    [
        [*MESSPLUS, "--seed", "0", "--cost-scale", "auto", "--no-shuffle"],
        [*BANDIT, "--seed", "0", "--cost-scale", "auto"],
        [
            *MESSPLUS,
            "--slack",
            "0.1",
            "--alpha",
            "0.712345678",
            "--feedback-rate",
            "0.87654321",
            "--feedback-delay",
            "2",
        ],
        [*MESSPLUS, "--exponent", "0.333333333", "--reference", "large", "--seed", "123456789"],
    ],
)
def test_the_printed_command_gives_the_printed_figures(trace, capsys, tmp_path, monkeypatch, known, options):
    """In a narrow terminal too, and with any zoo.yaml."""
    (tmp_path / "zoo.yaml").write_text(known)
    monkeypatch.setenv("COLUMNS", "60")
    options = [*options, "--slack", "0.5"]  # something is to be chosen
    assert run(["tune", trace, *options]) == 0
    out = capsys.readouterr().out
    (command,) = re.findall("^  (messctl replay .*)$", out, re.MULTILINE)
    attained, cost = re.search(r"all requests: attains (\S+) ± \S+ for\s(\S+)", out).groups()
    assert run(["tune", trace, *options, "--json"]) == 0
    (played,) = json.loads(capsys.readouterr().out)["choices"][0]["chosen"]["traces"]
    assert played["replay"] == command
    exactly = replayed(command, capsys)
    assert (f"{exactly[0]:.4f}", f"{exactly[1]:.4g}") == (attained, cost)
    assert exactly == pytest.approx((played["whole"]["attained"], played["whole"]["cost"]), rel=1e-12)


def test_the_printed_command_names_the_zoo_file(capsys, tmp_path):
    """Only the zoo file sets the encoder of the prompts."""
    pytest.importorskip("llama_cpp")
    rows = [{"a": (row % 3 > 0, 1.0), "b": (1.0, 2.0 + row % 2)} for row in range(60)]
    trace = str(write_trace(tmp_path / "t.parquet", rows))
    (tmp_path / "a zoo.yaml").write_text("router: {features: {gguf: 'box:pico-34k.gguf'}}\n")
    assert run(["tune", trace, "--zoo", "a zoo.yaml", "--alpha", "0.7", *FEW, "--json"]) == 0
    for trial in json.loads(capsys.readouterr().out)["choices"][0]["front"]:
        (played,) = trial["traces"]
        assert shlex.split(played["replay"])[3:5] == ["--zoo", "a zoo.yaml"]
        assert replayed(played["replay"], capsys) == pytest.approx(
            (played["whole"]["attained"], played["whole"]["cost"]), rel=1e-12
        )


@pytest.mark.slow
@pytest.mark.parametrize("known", [None, "", OTHERWISE])
@pytest.mark.parametrize("policy", [MESSPLUS, BANDIT])
@pytest.mark.parametrize("zoo", [None, "other.yaml"])
def test_a_replay_with_the_written_zoo_gives_the_same_figures(trace, capsys, tmp_path, known, policy, zoo):
    """Every setting in which the file differs is written."""
    if known is not None:
        (tmp_path / "z.yaml").write_text(known)
    (tmp_path / "other.yaml").write_text("router: {trial_budget: 0.5, exponent: 0.4}\n")
    command = ["tune", trace, *policy, "--alpha", "0.8", "--reference", "small", "--cost-scale", "1", "--seed", "5"]
    command += ["--slack", "0.5"]
    assert run([*command, *(["--zoo", zoo] if zoo else []), "-o", "z.yaml", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)["choices"][0]["chosen"]
    settings, _ = load_settings(tmp_path / "z.yaml")
    assert (settings.reference, settings.cost_scale, settings.seed) == ("small", 1.0, 5)
    assert settings.trial_budget == (0.5 if zoo else None)
    (whole,) = [played["whole"] for played in chosen["traces"]]
    seeds = policy[-1]
    command = f"messctl replay {trace} --zoo z.yaml --policy {chosen['policy']} --seeds {seeds} --shuffle"
    assert replayed(command, capsys) == pytest.approx((whole["attained"], whole["cost"]), rel=1e-12)


def test_json_has_the_figures_of_replay(trace, capsys):
    assert run(["tune", trace, "--alpha", "0.7,0.8", *FEW, "--holdout-by", "hash", "--shuffle", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [choice["alpha"] for choice in document["choices"]] == [0.7, 0.8]
    for choice in document["choices"]:
        assert (choice["met"], choice["seeds"]) == (True, 3)
        assert {mark["policy"] for mark in choice["yardsticks"][0]["results"]} >= {"static-mix", "hindsight"}
        (played,) = choice["chosen"]["traces"]
        assert run([*played["replay"].split()[1:], "--holdout", "0.3", "--holdout-by", "hash", "--json"]) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        assert result["attained"] == pytest.approx(played["held_out"]["attained"], rel=1e-12)
        assert result["mean_cost"] == pytest.approx(played["held_out"]["cost"], rel=1e-12)
        assert result["certificate"] is None


def test_csv_has_a_line_per_setting(trace, capsys):
    assert run(["tune", trace, "--alpha", "0.8", *FEW, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 6
    assert [row["chosen"] for row in rows].count("True") == 1
    assert float(rows[0]["held_out/cost"]) > 0


@pytest.mark.slow
def test_the_bandit_has_its_own_default_v(trace, capsys):
    command = ["tune", trace, "--alpha", "0.8,0.85", "--policy", "bandit", "--seeds", "2", "--csv"]
    assert run(command) in (0, 1)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["policy"] for row in rows] == ["bandit"] * 50
    assert [row["v"] for row in rows] == ["", "0.1", "0.3", "1.0", "3.0"] * 10
    assert [row["margin"] for row in rows[::5]] == ["0.0", "0.005", "0.01", "0.02", "0.05"] * 2
    assert {row["c"] for row in rows} == {""}
    assert run([*command, "--v", "auto", "--margin", "0.01"]) in (0, 1)
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert run(["tune", trace, "--v", "auto", "--seeds", "2"]) == 2
    assert "messplus needs a number" in capsys.readouterr().err


@pytest.mark.slow
def test_both_policies_are_searched_by_default_and_the_choice_is_written(trace, capsys, tmp_path):
    command = ["tune", trace, "--alpha", "0.8", "--c", "0.1,0.5", "--seeds", "4", "-o", "zoo.yaml"]
    assert run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["policies"] == ["messplus", "bandit"]
    assert document["shuffle"] is True  # this trace says nothing of when its requests arrived
    (choice,) = document["choices"]
    chosen = choice["chosen"]
    settings, _ = load_settings(tmp_path / "zoo.yaml")
    assert (settings.policy, settings.v, settings.margin) == (chosen["policy"], chosen["v"], chosen["margin"])
    (played,) = chosen["traces"]
    assert run([*played["replay"].split()[1:], "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["attained"] == pytest.approx(played["whole"]["attained"], rel=1e-12)
    assert result["mean_cost"] == pytest.approx(played["whole"]["cost"], rel=1e-12)


def test_an_unattainable_alpha_exits_1_and_names_the_highest_one(trace, capsys, tmp_path):
    assert run(["tune", trace, "--alpha", "0.99", *FEW, "-o", "zoo.yaml"]) == 1
    out = capsys.readouterr().out
    assert "no setting keeps it with 95 % confidence" in out
    assert "the highest α kept is 0." in out
    assert "the best single model, large, attains" in out
    assert os.listdir(tmp_path) == []


def test_the_zoo_file_keeps_its_comments_and_order(trace, capsys, tmp_path, root):
    before = (root / "zoo.yaml").read_text()
    (tmp_path / "zoo.yaml").write_text(before)
    assert run(["tune", trace, *FEW, "-o", "zoo.yaml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "-  v: auto " in out
    assert (tmp_path / "zoo.yaml").read_text() == before
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "-o", "zoo.yaml"]) == 0
    after = (tmp_path / "zoo.yaml").read_text()
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert {old.split()[0] for old, _ in changed} <= {"policy:", "alpha:", "margin:", "v:", "c:"}
    assert all(old.split("#")[1:] == new.split("#")[1:] for old, new in changed)
    settings, _ = load_settings(tmp_path / "zoo.yaml")
    assert settings.alpha == 0.75
    assert settings.v in (0.01, 0.3, 3)
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "-o", "zoo.yaml", "--dry-run", "--csv"]) == 0
    assert "@@" not in capsys.readouterr().err  # nothing left to change


def test_a_missing_zoo_file_is_created(trace, tmp_path):
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "-o", "new.yaml"]) == 0
    assert load_settings(tmp_path / "new.yaml")[0].alpha == 0.75


def test_the_diff_is_a_key_of_the_json_and_not_in_the_csv(trace, capsys, tmp_path):
    command = ["tune", trace, *FEW, "--alpha", "0.75", "-o", "zoo.yaml", "--dry-run"]
    assert run(command) == 0
    out = capsys.readouterr().out
    diff = out[out.index("--- zoo.yaml") :]
    assert "+  alpha: 0.75\n" in diff
    assert run([*command, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["diff"], err) == (diff, "")
    assert run([*command, "--csv"]) == 0
    out, err = capsys.readouterr()
    assert ({len(row) for row in csv.reader(io.StringIO(out))}, err) == ({len(out.split("\n")[0].split(","))}, diff)
    assert os.listdir(tmp_path) == []


def test_a_zoo_written_to_another_folder_still_finds_its_models(trace, capsys, tmp_path, root):
    box = root / "messctl" / "box"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "p.gguf").symlink_to(box / "pico-34k.gguf")
    (tmp_path / "zoo.yaml").write_text("models:\n- {name: p, path: models/p.gguf}\n")
    (tmp_path / "new").mkdir()
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "-o", "new/zoo.yaml"]) == 0
    capsys.readouterr()
    assert run(["zoo", "check", "--zoo", "new/zoo.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usable"]


def test_the_zoo_file_keeps_its_link_mode_and_line_ends(trace, tmp_path):
    (tmp_path / "kept").mkdir()
    real, link = tmp_path / "kept" / "z.yaml", tmp_path / "zoo.yaml"
    real.write_bytes(b"sla:\r\n  alpha: 0.9\r\nrouter:\r\n  seed: 0\r\n")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "-o", "zoo.yaml"]) == 0
    assert (link.readlink(), real.stat().st_mode & 0o777) == (real, 0o640)
    written = real.read_bytes()
    assert b"alpha: 0.75\r\n" in written
    assert written.count(b"\n") == written.count(b"\r\n")


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("sla: {alfa: 1}\n", [], "did you mean 'alpha'"),
        ("sla: [\n", [], "invalid YAML"),
        ("models: [{name: a, path: a}]\n", ["--reference", "large"], "is not one of its models"),
        ("", ["--slack", "2"], "slack is 2"),
        ("", ["--holdout", "2"], "holdout is 2"),
        ("", ["--engine", "lokey"], "did you mean 'loky'"),
    ],
)
def test_errors_come_before_the_search(trace, capsys, monkeypatch, tmp_path, text, options, says):
    (tmp_path / "z.yaml").write_text(text)
    monkeypatch.setattr("messctl.library.tuning.search", lambda *_, **__: pytest.fail("the search has begun"))
    for more in ([], ["--dry-run"]):
        assert run(["tune", trace, *FEW, *options, "-o", "z.yaml", *more]) == 2
        assert says in capsys.readouterr().err
    assert (tmp_path / "z.yaml").read_text() == text


STYLES = [
    "",
    "# nothing but a comment\n",
    "sla: {alpha: 0.7}\nrouter: {v: 9, cost_scale: 1}  # flow\n",
    "router:\n    v: 1.0e-3   # small\n    seed: 7\nmodels:\n- name: 'a b'\n  path: x.gguf\n- name: c\n  path: y\n",
    "router:\n  v: 1\nmodels:\n  - name: 'a b'\n    path: x.gguf\n    cost: {unit: J, prompt: 2.0e-8, generated: 1}\n",
    "sla:\nrouter:\n  # none\ngrader: '^A'\n",
]


@pytest.mark.parametrize("text", STYLES)
def test_any_style_of_yaml_is_kept(tmp_path, text):
    path = tmp_path / "z.yaml"
    path.write_text(text)
    before, after = edit_settings(path, {"alpha": 0.9, "v": 0.25, "policy": "messplus"})
    assert before == text
    path.write_text(after)
    settings, _ = load_settings(path)
    assert (settings.alpha, settings.v, settings.policy) == (0.9, 0.25, "messplus")
    kept = [line for line in text.splitlines() if not any(key in line for key in ("v:", "alpha:", "sla:", "router:"))]
    assert [line for line in after.splitlines() if line in kept] == kept
    for comment in ("# nothing but a comment", "# flow", "# small", "# none"):
        assert (comment in text) == (comment in after)
    assert edit_settings(path, {"alpha": 0.9, "v": 0.25, "policy": "messplus"})[1] == after


def test_a_plot_is_drawn_and_the_same_twice(trace, tmp_path):
    for name in ("a.svg", "b.svg"):
        assert run(["tune", trace, *FEW, "--alpha", "0.8,0.99", "--plot", name, "--json"]) == 1
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


BAD = [
    (["--v", "x"], "--v holds 'x'"),
    (["--alpha", "1.5"], "alpha is 1.5"),
    (["--c", "-1"], "c is -1"),
    (["--margin", "2"], "margin is 2"),
    (["--margin", "x"], "--margin holds 'x'"),
    (["--seeds", "0"], "seeds is 0"),
    (["--holdout", "1"], "holdout is 1"),
    (["--holdout-by", "days"], "unknown way to hold out 'days'"),
    (["--policy", "random"], "'random' has nothing to tune"),
    (["--engine", "lokey"], "did you mean 'loky'"),
    (["--address", "x"], "--engine ray"),
    (["--slack", "2"], "slack is 2"),
    (["--dry-run"], "add -o zoo.yaml"),
    (["--alpha", "0.8,0.9", "-o", "z.yaml"], "several α"),
    (["-o", "no/z.yaml"], "the folder no does not exist"),
    (["-o", "TRACE"], "is read by the same command"),
    (["--plot", "p.pdf"], ".png or .svg"),
    (["--json", "--csv"], "exclude each other"),
    (["--cost-scale", "big"], "--cost-scale is 'big'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_usage_is_one_line_and_exit_code_2(trace, capsys, tmp_path, arguments, message):
    arguments = [trace if argument == "TRACE" else argument for argument in arguments]
    assert run(["tune", trace, *FEW, *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert os.listdir(tmp_path) == []


def stopped_after(monkeypatch, cells):
    """Send Ctrl-C after this many cells; with FEW, each seed has two."""

    @contextmanager
    def bar(*_, **__):
        def update(completed=0, **_):
            if completed == cells:
                raise KeyboardInterrupt

        yield update

    monkeypatch.setattr(command_of, "progress_bar", bar)


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
@pytest.mark.parametrize("known", [None, "router:\n  v: 9\n"])
def test_ctrl_c_writes_nothing_and_counts_completed_seeds(trace, capsys, monkeypatch, tmp_path, known, more):
    if known:
        (tmp_path / "zoo.yaml").write_text(known)
    command = ["tune", trace, *FEW, "--seeds", "9", "--alpha", "0.75", "--slack", "0.5"]
    stopped_after(monkeypatch, 5)
    assert run([*command, "-o", "zoo.yaml", *more]) == 130
    out, err = capsys.readouterr()
    assert "interrupted; nothing is written to zoo.yaml" in err
    assert "interrupted: the results of 2 of 9 seeds" in out
    assert "+++" not in out
    assert os.listdir(tmp_path) == (["zoo.yaml"] if known else [])
    assert not known or (tmp_path / "zoo.yaml").read_text() == known
    (printed,) = re.findall("^  (messctl replay .*)$", out, re.MULTILINE)
    attained, cost = re.search(r"all requests: attains (\S+) ± \S+ for\s(\S+)", out).groups()
    exactly = replayed(printed, capsys)
    assert (f"{exactly[0]:.4f}", f"{exactly[1]:.4g}") == (attained, cost)


def test_ctrl_c_after_one_seed_gets_a_warning(trace, capsys, monkeypatch):
    stopped_after(monkeypatch, 3)
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "--slack", "0.5"]) == 130
    out, err = capsys.readouterr()
    assert "interrupted: the results of 1 of 3 seeds" in out
    assert "one seed gives no confidence; play more seeds" in err


@pytest.mark.slow
def test_ctrl_c_prints_the_results_so_far(tmp_path, root):
    """With a real signal to a real process during the search."""
    heeding = (
        "import signal; from messctl.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()"
    )
    command = [sys.executable, "-c", heeding, "tune", str(root / "traces" / "box.parquet"), "--csv"]
    command += ["--seeds", "100000", "--policy", "messplus", "-o", "zoo.yaml"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, "Traceback" in err) == (130, False)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert not rows or (len(rows) == 750 and 0 < int(rows[0]["seeds"]) < 100_000)
    assert os.listdir(tmp_path) == []
