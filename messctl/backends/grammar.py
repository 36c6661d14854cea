"""`response_format` as a grammar (GBNF), by which llama.cpp draws only tokens that keep to it.

llama-cpp-python turns a JSON schema into a grammar; its module is loaded by itself, since the whole package loads
slowly.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

LONGEST_SCHEMA = 65536
"""In characters. A schema makes a grammar that may be many times as long."""
DEEPEST = 32
MOST_REPEATS = 1000
"""How often a schema may repeat one thing. A grammar writes each time out, one within the other; with 20,000
llama.cpp ends the process."""
MOST_QUANTIFIERS = 100
"""How many parts of a pattern may be there or not. Each next token is compared with all that may follow."""
REPEATS = ("minItems", "maxItems", "minLength", "maxLength")
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
        if any(times > MOST_REPEATS for times in _repeats(schema)):
            raise GrammarError(f"repeats something more than {MOST_REPEATS:,} times")
    for each in below:
        _check(each, depth + 1)


def _repeats(schema: Mapping[str, Any]) -> Iterator[int]:
    """Yield how often a schema repeats what it holds itself: its items, its characters, the groups of its pattern."""
    for name in REPEATS:
        times = schema.get(name)
        if isinstance(times, int):
            yield times
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        yield MOST_REPEATS * sum(map(pattern.count, "?*+{")) // MOST_QUANTIFIERS
        counts = [(behind, int(digits[:9])) for behind, digits in re.findall(r"(\)?)\{(?:[0-9]*,)?([0-9]+)", pattern)]
        single = max((times for group, times in counts if not group), default=1)
        yield single * math.prod(times for group, times in counts if group)


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
