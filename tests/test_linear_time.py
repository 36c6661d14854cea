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
    "names of many columns": (
        "from pathlib import Path\n"
        "from messctl.importers.base import Place\n"
        "from messctl.importers.names import check_models\n"
        "names = {f'm{number} score': '' for number in range(length // 20)}\n"
        "check_models(Place(Path('a.csv')), names)"
    ),
    "a table of many columns that nobody named": (
        "import tempfile\n"
        "from pathlib import Path\n"
        "from messctl.errors import ProposalError\n"
        "from messctl.importers.base import ImportOptions\n"
        "from messctl.importers.table import rows\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    path, many = Path(folder, 'a.csv'), length // 50\n"
        "    header = ','.join(f'm{number}' for number in range(many))\n"
        "    path.write_text(f'prompt,{header}\\nhi' + ',1' * many + '\\nho' + ',0' * many)\n"
        "    try:\n"
        "        rows([path], ImportOptions())\n"
        "    except ProposalError as error:\n"
        "        assert error.options.count('--wide') == many"
        "\n    else:\n        raise AssertionError('nothing is proposed')"
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
