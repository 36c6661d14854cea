"""What is fuzzed: for each kind of input, how one is made from real ones, and what of messctl reads it."""

from __future__ import annotations

import io
import json
import random
import shutil
import socketserver
import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from gguf_making import TEMPLATE
from hostile_traces import columns
from importer_cases import CASES
from mutations import TOKENS, VALUES, expression, mutated, odd_document
from reply_shapes import SECTIONS

from messctl import cli
from messctl.backends import OpenAICompatible
from messctl.backends.chat import ChatTemplate, TemplateError
from messctl.errors import MessctlError
from messctl.graders.expect import expect_regex
from messctl.graders.reference import REFERENCE_GRADERS, reference_grader
from messctl.importers.text import readable_prompt
from messctl.inputs import decoded
from messctl.record.prompts import read_prompts
from messctl.records import Question
from messctl.state import store
from messctl.zoo import ModelSpec
from messctl.zoo.edit import edit_settings
from messctl.zoo.finding.places import Place
from messctl.zoo.finding.search import search

ROOT = Path(__file__).parents[2]
PROMPTS = (
    b'{"prompt": "What is 1 + 1?", "reference": ["2", "two"], "request_id": "a", "source": "s"}\n{"prompt": "hi"}\n'
)
TEMPLATES = (TEMPLATE, "{% for m in messages %}{{ m.role ~ ':' ~ m.content | trim | tojson }}\n{% endfor %}")
TYPES = (pa.float64(), pa.float16(), pa.int64(), pa.uint64(), pa.string(), pa.large_binary(), pa.bool_())
WRONG = ("Traceback (most recent call last)", "this is a fault in messctl", "the memory is used up")
"""Words in what messctl prints that mean a fault of messctl."""


class WrongError(Exception):
    """messctl did what it must never do with any input. The message says what."""


def command(*arguments: object) -> None:
    """Run a command line. Raises WrongError if it ends by the last resort, or with another exit code than 0, 1 or 2."""
    shown = {"encoding": "utf-8", "errors": "backslashreplace"}
    with Path("out").open("w", **shown) as out, Path("err").open("w+", **shown) as err:
        kept, streams = (sys.stdin, sys.stdout, sys.stderr), (io.TextIOWrapper(io.BytesIO()), out, err)
        sys.stdin, sys.stdout, sys.stderr = streams
        try:
            code = cli.run([str(each) for each in arguments])
        finally:
            sys.stdin, sys.stdout, sys.stderr = kept
        err.seek(0)
        said = err.read()
    last = said.splitlines()[-1] if said else ""
    if code not in (0, 1, 2) or any(word in said for word in WRONG):
        what = f"exit code {code}"
    elif code == 2 and not last.startswith("messctl: "):
        what = "exit code 2 without a line that says why"
    elif not all(line.isprintable() for line in said.split("\n")):
        what = "control characters in its messages"
    else:
        return
    raise WrongError(f"{arguments[:4]}: {what}: {said[-2000:]!r}")


def allowed(function: Callable[..., Any], *arguments: Any, also: type[Exception] = MessctlError) -> None:
    """Call a function, which may raise errors that messctl raises on purpose."""
    with suppress(MessctlError, also):
        function(*arguments)


def zoo(chance: random.Random, corpus: Path) -> None:
    """A zoo.yaml, read by the commands that read one, and edited."""
    files = [path.read_bytes() for path in sorted((corpus / "zoo").iterdir())]
    Path("zoo.yaml").write_bytes(mutated(chance.choice(files), chance, files))
    command(*chance.choice((["zoo", "check"], ["status"], ["log"])), "--zoo", "zoo.yaml", *_state(chance))
    settings = {"alpha": 0.7, "policy": "bandit", "v": 0.5, "margin": 0.01, "reference": None}
    if chance.random() < 0.3:
        allowed(edit_settings, Path("zoo.yaml"), dict(chance.sample(sorted(settings.items(), key=str), 2)))


def _state(chance: random.Random) -> list[str]:
    return ["--state", f"state{chance.randrange(3)}.db"]


def gguf(chance: random.Random, corpus: Path) -> None:
    """A GGUF file, whose header is read by the search for models and by the check of a zoo."""
    header = (ROOT / "messctl/box/pico-34k.gguf").read_bytes()
    size = chance.choice((500, 5000, len(header)))
    Path("m.gguf").write_bytes(mutated(header[:size], chance) + header[size:])
    Path("zoo.yaml").write_text("models: [{name: m, path: m.gguf}]")
    if chance.random() < 0.5:
        command("zoo", "check", "--zoo", "zoo.yaml")
    else:
        search([Place("this folder", Path.cwd(), 1)])


def trace(chance: random.Random, corpus: Path) -> None:
    """A trace: changed bytes of one without checksums, or odd columns and metadata."""
    if chance.random() < 0.6:
        files = [path.read_bytes() for path in sorted((corpus / "trace").iterdir())]
        Path("t.parquet").write_bytes(mutated(chance.choice(files), chance, files))
    else:
        _odd_table(chance)
    words = chance.choice((["trace", "validate"], ["trace", "info"], ["trace", "head", "--json"], ["trace", "head"]))
    if chance.random() < 0.08:
        words = chance.choice((["replay", "--policy", "messplus"], ["replay", "--policy", "static-mix", "--no-cache"]))
        words += ["--alpha", chance.choice(("0.3", "0.3", "0.8"))]
    command(*words, "t.parquet")


def _odd_table(chance: random.Random) -> None:
    held: dict[str, Any] = {**columns(8), "served": ["a"] * 8, "alpha": [0.8] * 8, "judged": list(range(8))}
    for _ in range(chance.choice((1, 1, 2))):
        name = chance.choice([*held, "arrived_at", "propensity", "explored", "cost/[/b]", "tokens_in/a", "satisfied/"])
        kind = chance.choice(
            (pa.float64(), pa.float16(), pa.int64(), pa.uint64(), pa.string(), pa.binary(), pa.bool_())
        )
        with suppress(pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
            held[name] = pa.array([chance.choice((*VALUES, *TOKENS)) for _ in range(8)], kind)
            if chance.random() < 0.2:
                held[name] = held[name].dictionary_encode()
    if chance.random() < 0.1:
        moments = [chance.choice((-(2**62), -1, 0, 10**15, 2**62)) for _ in range(8)]
        held["arrived_at"] = pa.array(moments).cast(pa.timestamp(chance.choice(["s", "ms", "us", "ns"]), "UTC"))
    metadata = None
    if chance.random() < 0.4:
        document = {"version": 1, "models": ["a", "b"], "cost_unit": "J", "meter": "m", "source": "s"}
        text = json.dumps(odd_document(document, chance)).encode()
        metadata = {"messctl": mutated(text, chance) if chance.random() < 0.5 else text}
    table = pa.table(held).replace_schema_metadata(metadata)
    with suppress(pa.ArrowException):  # it writes no times beyond its own limits
        pq.write_table(table, "t.parquet", store_schema=chance.random() < 0.5, row_group_size=chance.choice((1, 3, 8)))


def log(chance: random.Random, corpus: Path) -> None:
    """A log in the form of a trace, or a state, evaluated for another policy."""
    file = chance.choice(sorted((corpus / "log").iterdir()))
    Path(file.name).write_bytes(mutated(file.read_bytes(), chance))
    command("evaluate", file.name, "--policy", "static-mix")


def source(chance: random.Random, corpus: Path) -> None:
    """Benchmark results in every format that can be imported."""
    name = chance.choice(sorted(CASES))
    shutil.rmtree("source", ignore_errors=True)
    sources = [corpus / name / path for path in (corpus / name / "sources").read_text().split("\n")]
    shutil.copytree(corpus / name, "source")
    files = [
        path for path in sorted(Path("source").rglob("*")) if path.suffix in (".json", ".jsonl", ".csv", ".parquet")
    ]
    for file in chance.sample(files, min(len(files), chance.choice((1, 1, 2)))):
        file.write_bytes(_changed_file(file, chance))
    given = [Path("source") / path.relative_to(corpus / name) for path in sources]
    command("import", name, *given, "-o", "made.parquet")


def _changed_file(file: Path, chance: random.Random) -> bytes:
    data = file.read_bytes()
    if file.suffix == ".json" and chance.random() < 0.5:
        return json.dumps(odd_document(json.loads(data), chance)).encode()
    if file.suffix == ".jsonl" and chance.random() < 0.5:
        return b"\n".join(json.dumps(odd_document(json.loads(line), chance)).encode() for line in data.splitlines())
    return mutated(data, chance)


def prompts(chance: random.Random, corpus: Path) -> None:
    """A file of prompts to record, in every format; and a text from standard input."""
    kind = chance.choice(("jsonl", "json", "csv", "txt", "parquet"))
    held = {"prompt": ["hi", "there"], "reference": ["a", "b"], "request_id": ["1", "2"]}
    if kind == "parquet":
        pq.write_table(pa.table(held), "p.parquet")
    data = {
        "jsonl": lambda: PROMPTS,
        "json": lambda: b"[" + PROMPTS.strip().replace(b"\n", b",") + b"]",
        "csv": lambda: b'prompt,reference,request_id\n"hi, you",2,a\nthere,3,b\n',
        "txt": lambda: b"hi\nthere\n",
        "parquet": lambda: Path("p.parquet").read_bytes(),
    }[kind]()
    Path(f"p.{kind}").write_bytes(mutated(data, chance))
    allowed(lambda: read_prompts(Path(f"p.{kind}"), skip_bad=chance.random() < 0.5))
    allowed(decoded, mutated(data, chance), "it")
    readable_prompt("[" + mutated(b"'a', 'b', \"c\"", chance).decode("utf-8", "replace") + "]")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    reply: Sequence[bytes] = ()


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            length = 0
            while (line := self.rfile.readline()).strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            for part in self.server.reply:
                self.wfile.write(part)


_servers: list[_Server] = []
_backend = OpenAICompatible(pause=lambda _: None)


def reply(chance: random.Random, corpus: Path) -> None:
    """What a server answers: real shapes with changed bytes and values, compressed or not, cut anywhere."""
    if not _servers:
        _servers.append(_Server(("127.0.0.1", 0), _Handler))
        threading.Thread(target=_servers[0].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    shape = chance.choice(SHAPES)
    body = shape.body
    if chance.random() < 0.5 and shape.kind == "application/json":
        with suppress(ValueError):
            body = json.dumps(odd_document(json.loads(body), chance)).encode()
    elif chance.random() < 0.5:
        body = b"".join(_odd_event(line, chance) for line in body.splitlines(keepends=True))
    body = mutated(body, chance, [other.body for other in SHAPES[:20]]) if chance.random() < 0.7 else body
    encoding = chance.choice(("", "", "", "Content-Encoding: gzip\r\n", "Transfer-Encoding: chunked\r\n"))
    head = f"HTTP/1.1 {shape.status} X\r\nContent-Type: {shape.kind}\r\n{encoding}Content-Length: {len(body)}\r\n\r\n"
    whole = head.encode() + body
    whole = mutated(whole, chance) if chance.random() < 0.3 else whole
    at = chance.randrange(len(whole) + 1)
    server = _servers[0]
    server.reply = (whole[:at], whole[at:])
    model = ModelSpec("m", url=f"http://127.0.0.1:{server.server_address[1]}/v1", timeout_s=2, deadline_s=4, retries=1)
    allowed(_backend.complete if chance.random() < 0.9 else lambda *_: _backend.list_entries(model), model, QUESTION)


def unreachable() -> None:
    """Ask a server that is not there, which loads all that a request needs. Raises MessctlError."""
    _backend.complete(ModelSpec("m", url="http://127.0.0.1:9/v1", retries=0), QUESTION)


QUESTION = Question("hi", max_tokens=20)
SHAPES = [shape for section in SECTIONS.values() for shapes in section.values() for shape in shapes.values()]


def _odd_event(line: bytes, chance: random.Random) -> bytes:
    if not line.startswith(b"data: {") or chance.random() < 0.7:
        return line
    with suppress(ValueError):
        return b"data: " + json.dumps(odd_document(json.loads(line[6:]), chance)).encode() + b"\n"
    return line


def regex(chance: random.Random, corpus: Path) -> None:
    """A regular expression and an answer, and every grader with odd answers and references."""
    answer = mutated(b"The answer is 42. (B) aaaaaaaaaaaaaaaaaaaaaaaab 1/2", chance).decode("utf-8", "replace")
    answer *= chance.choice((1, 1, 20))
    allowed(lambda: expect_regex(expression(chance))(answer))
    name = chance.choice(sorted(REFERENCE_GRADERS))
    reference = expression(chance) if name == "regex" else chance.choice((*TOKENS, "42", "B", "1/2"))
    allowed(lambda: reference_grader(name)(answer, reference))


def template(chance: random.Random, corpus: Path) -> None:
    """A chat template."""
    source = mutated(chance.choice(TEMPLATES).encode(), chance).decode("utf-8", "replace")
    messages = [{"role": "user", "content": chance.choice(TOKENS)}]
    allowed(lambda: ChatTemplate(source, "<s>", "</s>").prompt(messages), also=TemplateError)


def state(chance: random.Random, corpus: Path) -> None:
    """A state: changed bytes, or odd values in its tables, read by the commands that read one."""
    shutil.copy(corpus / "state.db", "changed.db")
    if chance.random() < 0.4:
        Path("changed.db").write_bytes(mutated((corpus / "state.db").read_bytes(), chance))
    else:
        with suppress(sqlite3.Error, OverflowError):
            _odd_cell(chance)
    if chance.random() < 0.3:
        allowed(lambda: store.check(Path("changed.db")))  # as `doctor` does, which starts slow programs, too
    words = chance.choice((["status"], ["log"], ["log", "--json"], ["export", "-o", "x.parquet"]))
    words = ["feedback", chance.choice(("good", "bad"))] if chance.random() < 0.2 else words
    command(*words, "--state", "changed.db")


def _odd_cell(chance: random.Random) -> None:
    with sqlite3.connect("changed.db") as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = chance.choice(tables)
        names = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        if names:
            name = chance.choice(names)
            odd = chance.choice(
                (None, -1, 0, 1e300, 2**62, "", "x", "\x1b[2J", b"\xff\0", "[" * 2000, float("inf"), "{}")
            )
            changes = (
                (f'UPDATE "{table}" SET "{name}" = ? WHERE rowid % 2 = ?', (odd, chance.randrange(2))),
                (f'UPDATE "{table}" SET "{name}" = ?', (odd,)),
                (f'UPDATE "{table}" SET "{name}" = CAST(? AS TEXT)', (b"\xff\xfe",)),
                (f'ALTER TABLE "{table}" DROP COLUMN "{name}"', ()),
                (f'DELETE FROM "{table}" WHERE rowid % 2 = 0', ()),
                (f'DROP TABLE "{table}"', ()),
            )
            database.execute(*chance.choice(changes))
    database.close()


SUBJECTS: Mapping[str, Callable[[random.Random, Path], None]] = {
    function.__name__: function for function in (zoo, gguf, trace, log, source, prompts, reply, regex, template, state)
}
