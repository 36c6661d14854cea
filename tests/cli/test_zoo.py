"""`messctl zoo check` and `messctl doctor` as they are typed."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import typer
from gguf_making import write_gguf
from servers import misbehaving

from messctl import cli
from messctl.backends.llama_library import load_library
from messctl.cli import doctor, run, zoo
from messctl.costs.machine_counters import EnergyCounter
from messctl.doctor import findings
from messctl.zoo import PACKAGED_FILE

TEXT = """
defaults: {max_tokens: 8, n_ctx: 0}
models:
- {name: "small[red]", path: small.gguf}
- {name: large, path: large.gguf}
"""


@pytest.fixture(autouse=True)
def commands(monkeypatch, tmp_path):
    """The two commands by themselves, on a machine without energy counters."""
    app = typer.Typer()
    zoo.register(app)
    doctor.register(app)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(findings, "energy_counters", tuple)
    monkeypatch.setattr(findings, "NVIDIA_DRIVER", tmp_path / "no driver")
    monkeypatch.delenv("MESSCTL_STATE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def zoo_file(tmp_path):
    write_gguf(tmp_path / "small.gguf")
    write_gguf(tmp_path / "large.gguf", texts={"general.license": "mit"}, context=512)
    path = tmp_path / "zoo.yaml"
    path.write_text(TEXT)
    return path


def outcome(capsys, *arguments):
    code = cli.run([*map(str, arguments)])
    return code, *capsys.readouterr()


def test_check_shows_a_sound_zoo(capsys, zoo_file):
    code, out, err = outcome(capsys, "zoo", "check")
    assert (code, err) == (0, "")
    assert "zoo.yaml: 2 models" in out
    row = next(text for text in out.splitlines() if "small[red]" in text)
    for cell in ("small.gguf", "llama", "F16", "own", "320", "256 of 256", "kB", "6.4e-08 / 6.4e-08"):
        assert cell in row
    assert "costs: estimated: 2 × active parameters × tokens at 1e+10 FLOP/J" in out
    assert "memory: about" in out


def test_check_prints_one_json_document(capsys, zoo_file):
    code, out, err = outcome(capsys, "zoo", "check", "--zoo", zoo_file, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert list(document) == [
        "version",
        "zoo",
        "usable",
        "needed_bytes",
        "available_bytes",
        "budgets",
        "cost_unit",
        "meter",
        "models",
        "problems",
    ]
    assert (document["usable"], document["cost_unit"], document["problems"]) == (True, "J", [])
    large = document["models"][1]
    assert large["name"] == "large"
    assert (large["parameters"], large["own_context"], large["context"], large["license"]) == (320, 512, 512, "mit")
    assert (large["chat_template"], large["cost_per_prompt_token"]) == ("own", 6.4e-8)


def test_check_shows_stated_costs_and_templates(capsys, zoo_file):
    more = 'defaults: {cost: {unit: USD, prompt: 0.25, generated: 0.5}, chat_template: "{{ x }}", '
    zoo_file.write_text(TEXT.replace("defaults: {", more))
    code, out, _ = outcome(capsys, "zoo", "check")
    assert code == 0
    assert "0.25 / 0.5" in out
    assert "zoo.yaml's" in out
    assert "costs: stated: USD per prompt token" in out


def test_check_lists_warnings_and_exits_0(capsys, zoo_file):
    zoo_file.write_text(TEXT.replace("n_ctx: 0", "n_ctx: 512"))
    code, out, err = outcome(capsys, "zoo", "check")
    assert (code, err) == (0, "")
    assert "! small[red]: n_ctx is 512, but the model's own context is 256" in out
    assert "large: " not in out


def test_check_exits_2_if_a_model_cannot_be_used(capsys, zoo_file, tmp_path):
    (tmp_path / "large.gguf").write_bytes(b"GGUF\x1b[31m")
    code, out, err = outcome(capsys, "zoo", "check")
    assert code == 2
    assert "✗ large: " in out
    assert "✗ small" not in out
    assert err.startswith("messctl: zoo.yaml: 1 of 2 models cannot be used; large: ")
    assert err.count("\n") == 1
    assert "\x1b" not in out + err
    code, out, _ = outcome(capsys, "zoo", "check", "--json")
    document = json.loads(out)
    assert (code, document["usable"]) == (2, False)
    assert document["models"][1]["parameters"] is document["models"][1]["cost_per_prompt_token"] is None
    assert [(problem["model"], problem["fatal"]) for problem in document["problems"]] == [("large", True)]


def test_check_refuses_an_invalid_zoo_file(capsys, tmp_path):
    (tmp_path / "zoo.yaml").write_text("modls: []")
    code, out, err = outcome(capsys, "zoo", "check")
    assert (code, out) == (2, "")
    assert err.startswith("messctl: zoo.yaml, line 1: unknown key 'modls' in the file (did you mean 'models'?)")


def found(out):
    return [line[0] + line[1:].split(":")[0] for line in out.splitlines()]


def test_doctor_finds_a_healthy_machine(capsys, zoo_file, tmp_path):
    pytest.importorskip("llama_cpp")
    code, out, err = outcome(capsys, "doctor", "--state", tmp_path / "new" / "state.sqlite")
    assert (code, err) == (0, "")
    assert found(out) == ["✓ llama.cpp", "✓ zoo", "✓ offload", "✓ energy", "✓ state"]
    assert "no counter can be read; costs are estimated" in out
    assert "does not exist yet; the first request creates it" in out
    assert not (tmp_path / "new").exists()


def test_doctor_prints_one_json_document(capsys, zoo_file, tmp_path):
    pytest.importorskip("llama_cpp")
    code, out, _ = outcome(capsys, "doctor", "--json", "--state", tmp_path / "state")
    document = json.loads(out)
    assert (code, document["usable"]) == (0, True)
    assert [finding["subject"] for finding in document["findings"]] == [
        "llama.cpp",
        "zoo",
        "offload",
        "energy",
        "state",
    ]
    assert {finding["status"] for finding in document["findings"]} == {"ok"}
    assert list(document["findings"][0]) == ["subject", "status", "text", "remedy"]


def test_doctor_tells_a_sound_state_from_a_broken_one(capsys, zoo_file, tmp_path, monkeypatch):
    from messctl.state.store import Store

    path = tmp_path / "state.sqlite"
    Store(path).close()
    monkeypatch.setenv("MESSCTL_STATE", str(path))
    code, out, _ = outcome(capsys, "doctor")
    assert code == 0
    assert f"✓ state: {path}: sound" in out
    path.write_bytes(b"no database at all" * 500)
    code, out, err = outcome(capsys, "doctor")
    assert (code, err) == (2, "")
    assert "✗ state: " in out
    monkeypatch.setenv("MESSCTL_STATE", str(path / "below"))
    code, out, _ = outcome(capsys, "doctor")
    assert code == 2
    assert "✗ state: " in out


def test_doctor_reports_a_missing_model_file(capsys, zoo_file, tmp_path):
    (tmp_path / "small.gguf").unlink()
    code, out, _ = outcome(capsys, "doctor", "--state", tmp_path / "s")
    assert code == 2
    assert "✗ zoo: zoo.yaml: small[red]: " in out
    assert "✓ zoo" not in out


def test_doctor_reports_a_missing_zoo_file(capsys, tmp_path):
    code, out, _ = outcome(capsys, "doctor", "--zoo", tmp_path / "absent.yaml", "--state", tmp_path / "s")
    assert code == 2
    assert "absent.yaml: cannot be read" in out
    assert "costs are estimated from FLOPs" in out


def test_doctor_lists_the_energy_counters(capsys, zoo_file, tmp_path, monkeypatch):
    counters = (EnergyCounter("RAPL a", None), EnergyCounter("RAPL b", "sudo this"))
    monkeypatch.setattr(findings, "energy_counters", lambda: counters)
    _, out, _ = outcome(capsys, "doctor", "--state", tmp_path / "s")
    assert "! energy: RAPL b exists, but cannot be read; sudo this" in out
    assert "✓ energy: RAPL a can be read (energy.meter); costs are estimated" in out


def llama(info, *, offload):
    return SimpleNamespace(
        __version__="9.9",
        llama_supports_gpu_offload=lambda: offload,
        llama_print_system_info=info.encode,
    )


@pytest.mark.parametrize(
    ("module", "driver", "line"),
    [
        (llama("CPU : AVX = 1 | ", offload=False), False, "✓ llama.cpp: llama-cpp-python 9.9, built for the CPU alone"),
        (
            llama("CPU : AVX = 1 | ", offload=False),
            True,
            "! llama.cpp: llama-cpp-python 9.9, built for the CPU alone, ",
        ),
        (
            llama("CUDA : ARCHS = 900 | F = 1 | CPU : AVX = 1 | ", offload=True),
            True,
            "✓ llama.cpp: llama-cpp-python 9.9, built for CUDA",
        ),
        (llama("CPU : AVX = 1 | ", offload=True), True, "✓ llama.cpp: llama-cpp-python 9.9, built for a GPU"),
        (None, False, "✗ llama.cpp: is not installed; pip install llama-cpp-python"),
    ],
)
def test_doctor_says_how_llama_cpp_is_built(capsys, zoo_file, tmp_path, monkeypatch, module, driver, line):
    load_library()  # what answers is the real one, as it was loaded before
    monkeypatch.setitem(sys.modules, "llama_cpp", module)
    if driver:
        (tmp_path / "no driver").touch()
    code, out, _ = outcome(capsys, "doctor", "--state", tmp_path / "s")
    assert out.startswith(line)
    assert code == (2 if module is None else 0)


def test_help_imports_nothing_heavy(root):
    import subprocess

    program = (
        "import sys, typer; from messctl.cli import zoo, doctor; app = typer.Typer(); zoo.register(app);"
        "doctor.register(app); print([m for m in ('gguf', 'yaml', 'numpy', 'llama_cpp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\n"


def test_check_and_doctor_list_the_models_of_servers(capsys, zoo_file, monkeypatch):
    with misbehaving(
        lambda handler: handler.answer(b'{"data": [{"id": "big\\u001b"}]}', 200, "application/json")
    ) as server:
        zoo_file.write_text(f"models:\n- {{name: big, url: {server.url}, parameters: 1e9}}\n")
        code, out, err = outcome(capsys, "zoo", "check")
        assert (code, err) == (0, "")
        assert f"big: {server.url} answers, and lists big\\x1b" in out
        assert f"! big: {server.url} lists no model 'big'; it lists big\\x1b: set `model` to one of these" in out
        assert "the server's" in out
        code, out, err = outcome(capsys, "doctor")
        assert (code, err) == (0, "")
        assert "✓ llama.cpp: is not needed: all models are at servers" in out
        assert f"✓ server: {server.url} answers for big" in out
    code, out, err = outcome(capsys, "zoo", "check", "--json")
    model = json.loads(out)["models"][0]
    assert (code, model["url"], model["path"], model["listed"]) == (2, server.url, None, None)
    assert "1 of 1 models cannot be used; model 'big' (" in err
    assert "cannot be reached" in err
    code, out, _ = outcome(capsys, "doctor")
    assert code == 2
    assert "✗ zoo: " in out


def test_the_check_says_that_a_named_grader_needs_a_reference(tmp_path, capsys):
    text = PACKAGED_FILE.read_text()
    for grader, said in (("numeric", True), ("{regex: '^4'}", False), ("none", False)):
        (tmp_path / "zoo.yaml").write_text(f"grader: {grader}\n{text}")
        assert run(["zoo", "check", "--zoo", str(tmp_path / "zoo.yaml")]) == 0
        out = capsys.readouterr().out
        assert ("grader: numeric; it needs a reference, from `messctl ask --expect`" in out) == said
