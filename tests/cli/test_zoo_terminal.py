"""`messctl zoo init` and `messctl zoo calibrate` at a terminal, and with a real model."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
from live_making import at_terminal, typed
from model_folders import gguf_file
from real_models import smollm2_file

from messctl.cli import run
from messctl.zoo import load_zoo
from messctl.zoo.models import BOX

pytest.importorskip("llama_cpp")
if not hasattr(os, "openpty"):
    pytest.skip("no pseudo-terminals here", allow_module_level=True)

CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    typed(monkeypatch)
    return tmp_path / "home"


@pytest.mark.slow
@pytest.mark.parametrize(("reply", "written"), [(b"y\n", True), (b"n\n", False), (b"\x04", False)])
def test_init_asks_below_its_table(tmp_path, reply, written):
    gguf_file(tmp_path / "m.gguf")
    code, out, err = at_terminal(["zoo", "init"], reply, before=b"[y/N] ")
    assert code == 0
    assert b"Write zoo.yaml? [y/N]" in CODES.sub(b"", err)
    assert b"m.gguf" in out
    assert (tmp_path / "zoo.yaml").exists() is written


@pytest.mark.slow
def test_calibrate_shows_the_model_the_interval_and_the_time_left(tmp_path):
    for name in ("pico-34k", "nano-109k"):
        shutil.copyfile(BOX / f"{name}.gguf", tmp_path / f"{name}.gguf")
    assert run(["zoo", "init", "--yes"]) == 0
    code, out, err = at_terminal(["zoo", "calibrate", "--meter", "seconds", "--time", "6s"], env={"COLUMNS": "160"})
    shown = CODES.sub(b"", err).decode("utf-8", "replace")
    assert code == 0
    assert re.search(r"pico-34k \(1 of 2\): loading .* at most 0:0[0-6] left", shown)
    assert re.search(r"nano-109k \(2 of 2\): (± \d+ %|first round)", shown)
    assert b"per generated token" in out


@pytest.mark.slow
def test_a_real_model_in_a_folder_is_found_checked_and_asked(tmp_path, capsys):
    (tmp_path / "large.gguf").symlink_to(smollm2_file())
    shutil.copyfile(BOX / "mini-1m.gguf", tmp_path / "small.gguf")
    assert run(["zoo", "init", "--yes"]) == 0
    zoo = load_zoo(None)
    assert (zoo.names, zoo.settings.reference) == (("small", "large"), "large")
    assert zoo.model("large").n_ctx == 8192
    assert run(["zoo", "check"]) == 0
    capsys.readouterr()
    assert run(["ask", "What is the capital of France?", "--model", "large", "--max-tokens", "20", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["answer"].strip()
    assert document["cost_quality"] == "estimated"
