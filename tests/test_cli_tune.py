import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from making import learnable, write_trace

from messctl.cli import run
from messctl.zoo import load_settings
from messctl.zoo.edit import edited

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
    """No zoo.yaml here."""
    monkeypatch.chdir(tmp_path)


def test_a_table_with_the_front_the_yardsticks_and_what_to_run(trace, capsys):
    assert run(["tune", trace, "--alpha", "0.8", *FEW]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("static-mix", "hindsight", "clairvoyant", "→ messplus, V = ", "÷ static-mix", "Q/n", "held out: 30%"):
        assert word in out
    command = next(line.strip() for line in out.splitlines() if line.strip().startswith("messctl replay"))
    promised = next(line.split()[3] for line in out.splitlines() if line.startswith("  all requests: attains"))
    assert run([*command.split()[1:], "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert f"{float(row['attained']):.4f}" == promised


def test_json_tells_the_same_as_replay(trace, capsys):
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


def test_the_bandit_has_a_v_of_its_own(trace, capsys):
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
    assert "messplus finds no V by itself" in capsys.readouterr().err


def test_by_default_both_policies_are_searched_and_what_is_chosen_is_written(trace, capsys, tmp_path):
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


def test_out_of_reach_is_exit_code_1_and_says_what_can_be(trace, capsys, tmp_path):
    assert run(["tune", trace, "--alpha", "0.99", *FEW, "-o", "zoo.yaml"]) == 1
    out = capsys.readouterr().out
    assert "no setting keeps it for sure" in out
    assert "can be promised" in out
    assert "the best model alone, large, attains" in out
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
    assert "@@" not in capsys.readouterr().out  # nothing left to change


def test_a_zoo_file_that_is_not_there_is_made(trace, tmp_path):
    assert run(["tune", trace, *FEW, "--alpha", "0.75", "-o", "new.yaml"]) == 0
    assert load_settings(tmp_path / "new.yaml")[0].alpha == 0.75


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
    before, after = edited(path, {"alpha": 0.9, "v": 0.25, "policy": "messplus"})
    assert before == text
    path.write_text(after)
    settings, _ = load_settings(path)
    assert (settings.alpha, settings.v, settings.policy) == (0.9, 0.25, "messplus")
    kept = [line for line in text.splitlines() if not any(key in line for key in ("v:", "alpha:", "sla:", "router:"))]
    assert [line for line in after.splitlines() if line in kept] == kept
    for comment in ("# nothing but a comment", "# flow", "# small", "# none"):
        assert (comment in text) == (comment in after)
    assert edited(path, {"alpha": 0.9, "v": 0.25, "policy": "messplus"})[1] == after


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


def test_ctrl_c_prints_what_is_known_so_far(tmp_path, root):
    """A real signal to a real process, in the middle of its work."""
    heeding = (
        "import signal; from messctl.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()"
    )
    command = [sys.executable, "-c", heeding, "tune", str(root / "traces" / "box.parquet"), "--csv"]
    command += ["--seeds", "100000", "--policy", "messplus", "-o", "zoo.yaml", "--dry-run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, "Traceback" in err) == (130, False)
    rows = list(csv.DictReader(io.StringIO(out.split("---")[0])))
    assert not rows or (len(rows) == 750 and 0 < int(rows[0]["seeds"]) < 100_000)
    assert os.listdir(tmp_path) == []
