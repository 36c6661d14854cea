"""`messctl replay`: its outputs, options, errors and exit codes."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from making import learnable, write_trace
from rich.cells import cell_len

from messctl.cli import run


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    rounds = learnable(300)
    rows = [
        {model: (rounds.satisfied[row, k], rounds.cost[row, k]) for k, model in enumerate(rounds.zoo.models)}
        for row in range(300)
    ]
    return str(write_trace(tmp_path_factory.mktemp("trace") / "t.parquet", rows, models=rounds.zoo.models))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No zoo.yaml here."""
    monkeypatch.chdir(tmp_path)


def test_the_default_output_is_a_table(trace, capsys):
    assert run(["replay", trace, "--alpha", "0.8"]) == 0
    out, err = capsys.readouterr()
    for word in (
        "always:large",
        "static-mix",
        "messplus",
        "hindsight",
        "clairvoyant",
        "certificate",
        "α = 0.8",
    ):
        assert word in out
    assert err == ""


def test_json_prints_one_document(trace, capsys):
    assert run(["replay", trace, "--alpha", "0.8", "--policy", "messplus", "--policy", "random", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trace"] == document["trace"] | {"path": trace, "requests": 300, "cost_unit": "J"}
    assert [result["policy"] for result in document["results"]] == ["messplus", "random"]


def test_csv_prints_a_line_per_policy(trace, capsys):
    assert run(["replay", trace, "--alpha", "0.8", "--policy", "random", "--csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 1


def test_every_option_reaches_the_replay(trace, capsys):
    arguments = "--alpha 0.7 --v 2 --c 0.5 --seed 3 --seeds 2 --shuffle --feedback-rate 0.9 --feedback-delay 2"
    assert run(["replay", trace, *arguments.split(), "--reference", "middle", "--cost-scale", "1", "--json",
                "--policy", "messplus"]) == 0  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert document["trace"]["reference"] == "middle"
    assert [document[key] for key in ("alpha", "seed", "seeds", "shuffle", "feedback_rate", "feedback_delay")] == [
        0.7, 3, 2, True, 0.9, 2,
    ]  # fmt: skip
    result = document["results"][0]
    assert (result["v"], result["c"], result["v_per_cost_unit"]) == (2, 0.5, 2)


UNUSED = (
    "messctl: warning: --prompt-costs changes nothing here, because no policy played uses it; "
    "leave it out, or add --policy bandit\n"
)


def test_prompt_costs_change_the_bandit_alone(capsys):
    box = str(Path(__file__).parents[2] / "traces" / "box.parquet")
    known, unknown = [], []
    for options, documents in ((["--prompt-costs", "--holdout", "0.3"], known), (["--holdout", "0.3"], unknown)):
        for policy in ("bandit", "messplus"):
            assert run(["replay", box, "--alpha", "0.8", "--policy", policy, *options, "--json"]) == 0
            out, err = capsys.readouterr()
            documents.append(json.loads(out))
            assert err == (UNUSED if policy == "messplus" and documents is known else "")
    assert [each["prompt_costs"] for each in known + unknown] == [True, True, False, False]
    assert known[0]["results"][0]["mean_cost"] != unknown[0]["results"][0]["mean_cost"]
    assert known[1]["results"] == unknown[1]["results"]  # MESS+ stays as published
    assert run(["replay", box, "--alpha", "0.8", "--policy", "static-mix", "--prompt-costs"]) == 0
    out, err = capsys.readouterr()
    assert "cost of reading each prompt known" in out
    assert err == UNUSED
    assert run(["replay", box, "--policy", "static-mix", "--policy", "bandit", "--prompt-costs", "--csv"]) == 0
    assert capsys.readouterr().err == ""


def test_options_replace_the_settings_of_the_zoo_file(trace, capsys, tmp_path):
    (tmp_path / "zoo.yaml").write_text("sla: {alpha: 0.6}\nrouter: {v: 9, cost_scale: 1}\n")
    run(["replay", trace, "--policy", "messplus", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["alpha"], document["results"][0]["v"]) == (0.6, 9)
    assert document["results"][0]["v_per_cost_unit"] == 9
    run(["replay", trace, "--policy", "messplus", "--json", "--alpha", "0.5", "--cost-scale", "auto"])
    document = json.loads(capsys.readouterr().out)
    assert document["alpha"] == 0.5
    assert document["results"][0]["v_per_cost_unit"] != 9


def test_steps_do_not_replace_a_file_of_another_kind(trace, tmp_path, capsys):
    (tmp_path / "precious").write_text("sla: {alpha: 0.8}\n")
    assert run(["replay", trace, "--steps", "precious"]) == 2
    assert "precious: exists and is not a Parquet file" in capsys.readouterr().err
    assert (tmp_path / "precious").read_text() == "sla: {alpha: 0.8}\n"


def test_steps_and_plot_are_written(trace, tmp_path):
    assert run(["replay", trace, "--alpha", "0.8", "--steps", "s.parquet", "--plot", "p.svg"]) == 0
    assert pq.read_table(tmp_path / "s.parquet").num_rows == 300
    assert sorted(os.listdir(tmp_path)) == ["p.svg", "s.parquet"]


@pytest.mark.parametrize(
    ("alpha", "policy", "code"),
    [
        ("0.5", "always:large", 0),
        ("0.97", "always:small", 1),
        ("0.97", "messplus", 1),
        ("0.5", "messplus", 0),
    ],
)
def test_require_sla_sets_the_exit_code(trace, alpha, policy, code):
    assert run(["replay", trace, "--alpha", alpha, "--policy", policy, "--require-sla"]) == code
    assert run(["replay", trace, "--alpha", alpha, "--policy", policy]) == 0


@pytest.mark.parametrize(
    ("policies", "judged"),
    [
        ("static-mix messplus bandit", "bandit"),
        ("static-mix messplus", "messplus"),
        ("always:small static-mix", "always:small"),
    ],
)
def test_a_router_is_judged_before_a_yardstick(trace, capsys, tmp_path, policies, judged):
    words = [word for name in policies.split() for word in ("--policy", name)]
    assert run(["replay", trace, "--alpha", "0.5", *words]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "the promise" in line] == [judged]
    (tmp_path / "zoo.yaml").write_text("router: {policy: static-mix}\n")
    assert run(["replay", trace, "--alpha", "0.5", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["judged"]
    assert found == ("static-mix" if "static-mix" in policies else judged)


def test_the_help_fits_two_screens(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    assert run(["replay", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 80
    assert max(map(cell_len, lines)) <= 80
    text = "\n".join(lines)
    assert all(f"─ {panel} ─" in text for panel in ("Promise", "Policy", "Requests", "Output"))
    assert not any(word in text for word in ("range", "--off-policy", "--skip-forced", "--impute"))


@pytest.mark.parametrize("options", [["--off-policy"], ["--skip-forced"], ["--impute"], ["--no-impute", "--c", "1"]])
def test_options_that_moved_name_the_new_command(capsys, options):
    assert run(["replay", "my log.parquet", *options]) == 2
    assert capsys.readouterr() == (
        "",
        "messctl: --off-policy is now a command: messctl evaluate 'my log.parquet'\n",
    )


def test_the_help_says_which_policy_is_judged(capsys):
    assert run(["replay", "--help"]) == 0
    assert "else the first router, else the first" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_control_characters_in_names_do_not_reach_a_terminal(tmp_path, capsys, monkeypatch):
    rows = [{"a": (1.0, 1.0), "b\x1b[31m": (1.0, 2.0)}] * 4
    path = str(write_trace(tmp_path / "t.parquet", rows, models=("a", "b\x1b[31m")))
    command = ["replay", path, "--alpha", "0.5", "--csv"]
    assert run(command) == 0
    piped = capsys.readouterr().out
    assert "always:b\x1b[31m" in piped
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown == piped.replace("\x1b", r"\x1b")


@pytest.mark.slow
def test_missing_characters_of_the_font_are_one_warning(tmp_path):
    path = write_trace(tmp_path / "t.parquet", [{"a": (1.0, 1.0), "日本語": (1.0, 2.0)}] * 4, models=("a", "日本語"))
    for name in ("p.png", "p.svg"):
        command = [sys.executable, "-m", "messctl", "replay", str(path), "--policy", "always:日本語", "--plot", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        line = f"messctl: warning: {name}: the font lacks some characters of the names; the plot shows boxes instead\n"
        assert (done.returncode, done.stderr) == (0, line)
        assert (tmp_path / name).is_file()


BAD = [
    (["--alpha", "1.5"], "alpha is 1.5"),
    (["--alpha", "nan"], "alpha is nan"),
    (["--alpha", "lots"], "--alpha"),
    (["--alpha", "1"], "beyond every policy"),
    (["--v", "-1"], "v is -1"),
    (["--c", "-0.1"], "c is -0.1"),
    (["--seed", "-1"], "seed is -1"),
    (["--seeds", "0"], "seeds is 0"),
    (["--policy", "mess"], "did you mean 'messplus'"),
    (["--policy", "always:larg"], "did you mean 'always:large'"),
    (["--reference", "huge"], "unknown reference model 'huge'"),
    (["--cost-scale", "big"], "--cost-scale is 'big'"),
    (["--cost-scale", "0"], "cost_scale is 0"),
    (["--feedback-rate", "2"], "feedback-rate is 2"),
    (["--feedback-delay", "-1"], "feedback-delay is -1"),
    (["--zoo", "absent.yaml"], "absent.yaml: cannot be read"),
    (["--feedback-delay", "99999999999999999999"], "--feedback-delay"),
    (["--v", "1e101"], "v is 1e+101"),
    (["--plot", "p.pdf"], ".png or .svg"),
    (["--plot", "p.png", "--steps", "p.png"], "is written twice"),
    (["--steps", "TRACE"], "is read by the same command"),
    (["--plot", "no/p.png"], "the folder no does not exist"),
    (["--steps", "."], "is a directory"),
    (["--steps", "s.parquet", "--policy", "random"], "add --policy messplus"),
    (["--holdout-by", "hash"], "add --holdout 0.3"),
    (["--holdout-by", "time"], "add --holdout 0.3"),
    (["--holdout", "0.3", "--holdout-by", "luck"], "unknown way to hold out 'luck'"),
    *(
        (["--policy", "logged", *option.split()], f"leave out {option.split()[0]}")
        for option in ("--shuffle", "--seeds 3", "--feedback-rate 0.5", "--feedback-delay 1", "--replicas 4")
    ),
    (["--json", "--csv"], "exclude each other"),
    (["--replicas", "0"], "replicas is 0"),
    (["--replicas", "2", "--plot", "p.svg"], "leave out --replicas"),
    (["--holdout", "0.5", "--steps", "s.parquet"], "leave out --holdout"),
    (["--holdout", "1.5"], "holdout is 1.5"),
    (["--stream", "--replicas", "2"], "--replicas needs the whole trace"),
    (["--stream", "--prompt-costs"], "--prompt-costs needs the whole trace"),
    (["--prompt-costs"], "not every row has tokens_in and tokens_out of model 'large'"),
    (["--polcy", "random"], "--policy"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_usage_is_one_line_and_exit_code_2(trace, capsys, tmp_path, arguments, message):
    arguments = [trace if argument == "TRACE" else argument for argument in arguments]
    assert run(["replay", trace, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("messctl: ")
    assert err.count("\n") == 1
    assert message in err
    assert os.listdir(tmp_path) == []


def test_an_input_is_not_overwritten(trace, capsys, tmp_path):
    (tmp_path / "zoo.yaml").write_text("sla: {alpha: 0.6}\nrouter: {features: {gguf: seen.svg}}\n")
    (tmp_path / "other.svg").write_text("sla: {alpha: 0.6}\n")
    (tmp_path / "seen.svg").write_bytes(b"GGUF")
    for arguments in (
        ["--steps", "zoo.yaml"],
        ["--steps", str(tmp_path / "zoo.yaml"), "--zoo", "zoo.yaml"],
        ["--plot", "other.svg", "--zoo", "other.svg"],
        ["--plot", "seen.svg"],
    ):
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        assert run(["replay", trace, "--alpha", "0.5", *arguments]) == 2
        assert "is read by the same command; give the output another name" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_steps_of_a_policy_not_played_are_refused_before_reading(capsys):
    assert run(["replay", "absent.parquet", "--steps", "s.parquet", "--policy", "random"]) == 2
    assert "add --policy messplus" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--stream"], ["--holdout", "0.5"], ["--alpha", "1"]])
def test_a_model_that_most_rows_lack_is_a_warning(capsys, tmp_path, more):
    rows = [{"a": (0.0, 1.0), "b\x1b": (1.0, 2.0)} if row % 5 else {"b\x1b": (0.0, 2.0)} for row in range(40)]
    for observed, warned in ((rows, False), (rows[::5] * 2 + rows[1:5], True)):
        path = str(
            write_trace(tmp_path / "t.parquet", observed, [f"r{k}" for k in range(len(observed))], ["a", "b\x1b"])
        )
        run(["replay", path, "--alpha", "0.5", "--policy", "messplus", *more])
        err = capsys.readouterr().err
        line = "messctl: warning: {}: 16 rows lack an outcome or a cost of 'a', and these rows are left out"
        assert err.startswith(line.format(path)) is warned


@pytest.mark.slow
def test_a_process_prints_no_traceback(trace, tmp_path):
    def messctl(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "messctl", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    (tmp_path / "bad\n\x1b[31m.parquet").write_text("x")
    done = messctl("replay", "bad\n\x1b[31m.parquet")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "\x1b" not in done.stderr
    done = messctl("replay", trace, "--alpha", "0.8", "--policy", "random")
    assert (done.returncode, done.stderr) == (0, "")
    assert messctl("--version").stdout.startswith("messctl ")
    assert "replay" in messctl().stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["", "replay --help", "replay TRACE --json", "replay TRACE", "trace info TRACE"])
def test_a_reader_who_leaves_early_causes_no_error(trace, arguments):
    """The reader is gone before the first byte is written."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "messctl", *arguments.replace("TRACE", trace).split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line(trace):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "messctl", "replay", trace, "--policy", "random", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("messctl: standard output: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_leaves_no_file(tmp_path, root):
    """A real signal to a real process, in the middle of its work."""
    heeding = (
        "import signal, sys; from messctl.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # Python may have inherited another handler
        "main()"
    )
    command = [sys.executable, "-c", heeding, "replay", str(root / "traces" / "box.parquet")]
    command += ["--policy", "messplus", "--seeds", "1000000", "--shuffle", "--steps", "s.parquet"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "messctl: interrupted; no half-written file is left\n")
    assert os.listdir(tmp_path) == []


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from messctl.cli import run; run(['--help']); run(['replay', '--help']); run(['tune', '--help'])\n"
        "heavy = {'numpy', 'numba', 'pyarrow', 'sklearn', 'scipy', 'matplotlib', 'yaml', 'ruamel', 'joblib', 'ray'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
