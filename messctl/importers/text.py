"""Prompts of sources that are lists of texts, made readable."""

from __future__ import annotations

import ast
import warnings

LONGEST_LIST = 2**20
"""The most characters of a list's repr; reading it as Python takes hundreds of times its memory."""


def readable_prompt(text: str) -> str:
    r"""Return the strings of a list's repr, joined by newlines. Return any other text unchanged.

    >>> readable_prompt("['Rub your hands.\\nWhy?', 'And now?']")
    'Rub your hands.\nWhy?\nAnd now?'
    >>> readable_prompt("[1, 2]")
    '[1, 2]'
    """
    if not (text.startswith("[") and text.endswith("]")) or len(text) > LONGEST_LIST:
        return text
    try:
        with warnings.catch_warnings():
            # Text that only looks like Python may contain escapes that the compiler warns about.
            warnings.simplefilter("ignore")
            parts = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    if not parts or not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return text
    return "\n".join(parts)
