"""Schemas from strangers as grammars: what would take the memory, the time or the process is refused."""

import ctypes
import json

import pytest

pytest.importorskip("llama_cpp")
from messctl.backends import LlamaCpp
from messctl.backends.constrained import Constrained
from messctl.backends.grammar import GrammarError, grammar_of
from messctl.backends.llama_library import load_library
from messctl.records import Chat, Question
from messctl.zoo import ModelSpec
from messctl.zoo.models import BOX

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TOO_MUCH = {
    "a billion items": {"type": "array", "items": WHOLE, "minItems": 10**9},
    "items that may be there": {"type": "array", "items": WHOLE, "maxItems": 20_000},
    "a long text": {**TEXT, "minLength": 10**12},
    "a text that may be long": {**TEXT, "maxLength": 20_000},
    "far below": {"properties": {"a": {"anyOf": [{"items": {**TEXT, "maxLength": 20_000}}]}}},
    "a repeated letter": {**TEXT, "pattern": "^a{9999}$"},
    "a repeated letter, perhaps": {**TEXT, "pattern": "^a{0,99999999999999999999}$"},
    "a run of runs": {**TEXT, "pattern": "^(a{0,100}){0,100}$"},
    "groups of groups": {**TEXT, "pattern": "^((a{100}){100}){100}$"},
    "many parts that may be there": {**TEXT, "pattern": "^" + "a?" * 5000 + "$"},
    "many runs": {**TEXT, "pattern": "^" + "[a-z]*" * 1000 + "$"},
}
SOUND = {
    "a date": {**TEXT, "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    "a number of many": {**TEXT, "pattern": "^([0-9a-f]{4}-){3}[0-9a-f]{12}$"},
    "a text of some length": {**TEXT, "minLength": 3, "maxLength": 1000},
    "a property called so": {"type": "object", "properties": {"maxItems": WHOLE, "pattern": TEXT}},
}


def wanted(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}


@pytest.mark.parametrize("schema", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_schema_that_repeats_too_much_is_refused_before_it_is_written_out(schema):
    with pytest.raises(GrammarError, match="repeats something more than 1,000 times"):
        grammar_of(wanted(schema))


@pytest.mark.parametrize("schema", SOUND.values(), ids=SOUND)
def test_an_ordinary_schema_is_kept_to(schema):
    format_ = wanted(schema)
    chat = Chat(({"role": "user", "content": "What is 1 + 1?"},), {"response_format": format_})
    model = ModelSpec("mini", BOX / "mini-1m.gguf", temperature=0.0)
    backend = LlamaCpp()
    try:
        answer = backend.complete(model, Question("What is 1 + 1?", max_tokens=12, chat=chat)).answer
    finally:
        backend.close()
    assert answer
    assert answer[0] == ("{" if schema["type"] == "object" else json.dumps("")[0])


def test_a_grammar_that_llama_cpp_cannot_read_is_an_error_without_a_print(capfd):
    api = load_library().api
    with pytest.raises(ValueError, match="cannot read the grammar"):
        Constrained(api, None, None, "root ::= [")
    assert capfd.readouterr().err == ""
    ctypes.CDLL(None).perror(b"afterwards")
    assert "afterwards" in capfd.readouterr().err
