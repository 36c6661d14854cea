"""Text from elsewhere is searched in linear time: a million odd characters, in a child with little processor time."""

from __future__ import annotations

import subprocess
import sys

import pytest

LENGTH = 1_000_000
"""Characters. In quadratic time, each of these takes more than an hour."""
LIMIT_S = 20
"""Processor time, of which linear code takes a second."""
CASES = {
    "data of a server's event that say nothing": (
        "from messctl.backends.answer_text import AnswerText\n"
        "from messctl.backends.event_stream import Event\n"
        "from messctl.backends.openai_reply import ServerReply\n"
        "reply = ServerReply(AnswerText())\n"
        "assert not reply._take(None, Event('message', ' .' * (length // 2) + 'z'))"
    ),
    "a line of llama.cpp's log": (
        "from messctl.backends.offload import Offload\n"
        "line = 'CUDA0 KV buffer size = 1.5 MiB ' + 'x' * length\n"
        "assert Offload.from_log([line, 'x' * length]).buffers_mib == {('CUDA0', 'KV'): 1.5}"
    ),
    "a cost in zoo.yaml": (
        "from messctl.zoo.cost_notes import with_notes\n"
        "text = 'models: [{name: a, cost: {unit: J, prompt: 1, generated: 2}' + ' ' * length + '}]'\n"
        "assert with_notes(text, {'a': 'a guess, as b'}) == text + '  # a guess, as b'"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_takes_linear_time(name):
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))

    code = f"length = {LENGTH}\n{CASES[name]}"
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
