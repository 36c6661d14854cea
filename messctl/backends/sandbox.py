"""The sandbox in which chat templates run: Jinja, with what Hugging Face's Transformers give a template.

A template is a program from a stranger, so it also has limits: on its time, on the text that it makes, and on memory.

Source: Transformers, "Chat templates", and `chat_template_utils.py`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from types import FrameType
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_eval_context

LONGEST_SOURCE = 2**17
"""The most characters of a template; to compile them takes 1.5 s at most."""
LONGEST_S = 2.0
"""The longest time that a template may take; usual ones take a millisecond."""
LONGEST_PROMPT = 2**25
"""The most characters that it may make."""
MOST_BYTES = 2**28
"""By how many bytes the process may grow meanwhile."""
LARGEST_NUMBER = 2**25
"""The largest number in a multiplication or a call, such as a width; larger ones only serve to use up memory."""
MOST_POWER = 100
MOST_PARTS = 10**6
"""The most parts of a list or an object, with all that is nested in it, as often as it is there. To compare, print or
hash them happens in C, where nobody looks at the clock."""
GROWING = frozenset(("expandtabs", "indent", "join", "replace", "translate", "wordwrap"))
"""Methods and filters that may make a text as long as two of their values multiplied."""
_NESTED = (list, tuple, dict)


class GenerationTag(Extension):
    """The tag `generation`, which marks the answers for training: its content is kept, the tag means nothing here."""

    tags = {"generation"}  # noqa: RUF012  # Jinja's own declaration

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what is between the tag and its end."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Generator(CodeGenerator):
    """Compiles a template so that what it builds is counted."""

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """Write a list."""
        self._counted(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """Write an object."""
        self._counted(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """Write a tuple; one to which something is assigned is none."""
        if node.ctx == "load":
            self._counted(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _counted(self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        self.write("environment.counted(")
        visit(node, frame)
        self.write(")")


class LimitedSandbox(ImmutableSandboxedEnvironment):
    """A sandbox in which no single step takes much time or memory. It raises SecurityError instead."""

    intercepted_binops = frozenset(("*", "**", "%"))
    code_generator_class = _Generator

    @staticmethod
    def counted(value: Any) -> Any:
        """Return a value, unless it has too many parts: each level of `[x, x]` doubles those of `x`."""
        parts, left = 0, [value] if isinstance(value, _NESTED) else []
        while left:
            each = left.pop()
            parts += len(each)
            if parts > MOST_PARTS:
                raise SecurityError(f"a list of more than {MOST_PARTS:,} parts is not allowed")
            left += [part for part in (each.values() if isinstance(each, dict) else each) if isinstance(part, _NESTED)]
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what is not too large."""
        _check_size(left, right)
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        if operator == "*" and (hasattr(left, "__len__") or hasattr(right, "__len__")):
            _check_size(_length(left) * _length(right))
        if operator == "**":
            _check_power(right)
        return self.counted(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, *arguments: Any, **named: Any) -> Any:
        """Call a function with numbers that are not too large."""
        if getattr(function, "__name__", "") != "safe_range":  # which checks by itself
            _check_size(*arguments, *named.values())
        text = getattr(function, "__self__", None)
        if isinstance(text, str) and function.__name__ in GROWING:
            _check_growth(text, *arguments, *named.values())
        return self.counted(super().call(context, function, *arguments, **named))

    def wrap_str_format(self, value: Any) -> Any:
        """Return the replacement of a text's method `format`."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(str(value.__self__))
        return wrapped


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that refuses numbers that are too large."""
    at = int(hasattr(function, "jinja_pass_arg"))  # the place of the value: Jinja's own context may come first

    @wraps(function)
    def limited(*arguments: Any, **named: Any) -> Any:
        _check_size(*arguments, *named.values())
        if name in GROWING and len(arguments) > at:
            if name == "join" and not hasattr(arguments[at], "__len__"):
                arguments = (*arguments[:at], [*arguments[at]], *arguments[at + 1 :])
            _check_growth(*arguments[at:], *named.values())
        if name == "round":
            _check_power(*arguments[1:], *named.values())
        if name == "format":
            _check_format(str(arguments[0]))
        return function(*arguments, **named)

    return limited


def _check_size(*values: Any) -> None:
    if any(isinstance(each, int) and abs(each) > LARGEST_NUMBER for each in values):
        raise SecurityError("a number this large is not allowed")


def _check_growth(first: Any, *others: Any) -> None:
    lengths = [
        max(map(_length, each.values()), default=0) if isinstance(each, dict) else _length(each) for each in others
    ]
    _check_size(_length(first) * max(lengths, default=0))


def _check_power(*values: Any) -> None:
    if any(isinstance(each, int) and abs(each) > MOST_POWER for each in values):
        raise SecurityError("a power this large is not allowed")


def _length(value: Any) -> int:
    """Return the size of a text or a list, or a whole number itself."""
    return len(value) if hasattr(value, "__len__") else abs(value) if isinstance(value, int) else 1


def _check_format(text: str) -> None:
    if re.search(r"\d{8}", text):
        raise SecurityError("a width this large is not allowed")


def joined(pieces: Iterable[str]) -> str:
    """Return the text that a template makes, piece by piece. Raises SecurityError at a limit."""
    made, size = [], 0
    with _watched():
        for piece in pieces:
            made.append(piece)
            size += len(piece)
            if size > LONGEST_PROMPT:
                raise SecurityError(f"it makes more than {LONGEST_PROMPT:,} characters")
    return "".join(made)


@contextmanager
def _watched() -> Iterator[None]:
    """Look at the clock and the memory after every line of Python that runs. Raises SecurityError at a limit."""
    until, most = time.monotonic() + LONGEST_S, _peak_bytes() + MOST_BYTES

    def watch(_frame: FrameType, _event: str, _argument: Any) -> Any:
        if time.monotonic() > until:
            raise SecurityError(f"it takes longer than {LONGEST_S:g} s")
        if _peak_bytes() > most:
            raise SecurityError(f"it takes more than {MOST_BYTES >> 20} MiB")
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


def _peak_bytes() -> int:
    """Return the most memory that this process has had; 0 if the system does not tell."""
    try:
        import resource  # noqa: PLC0415  # Windows has none
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def sandbox() -> ImmutableSandboxedEnvironment:
    """Return an environment in which a template can neither change nor reach anything but what it is given."""
    environment = LimitedSandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationTag, loopcontrols],
        optimized=False,  # nothing is computed while it is compiled, which nobody watches
        finalize=_as_it_is,
    )
    environment.filters |= {name: _limited(name, function) for name, function in environment.filters.items()}
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
    return environment


@pass_eval_context
def _as_it_is(_: EvalContext, value: Any) -> Any:
    """Return what a template prints. Since it takes a context, Jinja calls it at run time, also for constants."""
    return value


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as Transformers do: unlike Jinja's own filter, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise ValueError(message)


def _now(form: str) -> str:
    """Return the present local time in this form."""
    return datetime.now().astimezone().strftime(form)
