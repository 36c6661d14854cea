"""`response_format` as a grammar (GBNF), by which llama.cpp draws only tokens that keep to it.

llama-cpp-python turns a JSON schema into a grammar; its module is loaded by itself, since the whole package loads
slowly.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

LONGEST_SCHEMA = 65536
"""In characters. A schema makes a grammar that may be many times as long."""
DEEPEST = 32
JSON_OBJECT = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""
"""Any JSON object. Source: grammars/json.gbnf of llama.cpp."""


class GrammarError(Exception):
    """A schema cannot be turned into a grammar; the message says why."""


def grammar_of(wanted: Any) -> str | None:
    """Return the grammar of a `response_format`; None for text. Raises GrammarError."""
    kind = wanted.get("type", "text") if isinstance(wanted, Mapping) else "text"
    if kind == "text":
        return None
    if kind == "json_object":
        return JSON_OBJECT
    held = wanted.get("json_schema")
    schema = held.get("schema", {}) if isinstance(held, Mapping) else {}
    return _of_schema(json.dumps(schema))


@lru_cache(maxsize=64)
def _of_schema(schema: str) -> str:
    if len(schema) > LONGEST_SCHEMA:
        raise GrammarError(f"has more than {LONGEST_SCHEMA:,} characters")
    _check(json.loads(schema))
    try:
        return str(_converter().json_schema_to_gbnf(schema))
    except Exception as error:
        raise GrammarError(f"cannot be turned into a grammar ({type(error).__name__})") from error


def _check(schema: Any, depth: int = 0) -> None:
    """Raise GrammarError for a schema that is too deep, or that refers to something outside it."""
    if depth > DEEPEST:
        raise GrammarError(f"is nested more than {DEEPEST} levels deep")
    below = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    if isinstance(schema, dict):
        target = schema.get("$ref")
        if isinstance(target, str) and not target.startswith("#"):
            raise GrammarError("refers to another document")
    for each in below:
        _check(each, depth + 1)


@cache
def _converter() -> ModuleType:
    package = importlib.util.find_spec("llama_cpp")
    folder = None if package is None or package.origin is None else Path(package.origin).parent
    file = None if folder is None else folder / "llama_grammar.py"
    name = "messctl_llama_grammar"
    spec = None if file is None else importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise GrammarError("needs llama-cpp-python: pip install 'messctl[llama]'")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
