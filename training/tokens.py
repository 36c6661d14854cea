"""The byte-level tokenizer: token i is the byte i, and three control tokens follow."""

from __future__ import annotations

from typing import Final

BEGIN: Final = 256
ANSWER: Final = 257
END: Final = 258
VOCAB_SIZE: Final = 259

CONTROL_TEXTS: Final = {BEGIN: "<|begin|>", ANSWER: "<|answer|>", END: "<|end|>"}


def encode_prompt(prompt: str) -> list[int]:
    """The tokens that a model is given: what the chat template makes of one user message."""
    return [BEGIN, *prompt.encode(), ANSWER]


def encode_answer(answer: str) -> list[int]:
    """The tokens that a model shall give back."""
    return [*answer.encode(), END]


def decode(tokens: list[int]) -> str:
    """The text of `tokens`; control tokens have none, and broken UTF-8 is replaced."""
    return bytes(token for token in tokens if token < BEGIN).decode(errors="replace")


def byte_texts() -> list[str]:
    """How GGUF's "gpt2" vocabularies write each byte: as one printable character.

    Printable Latin-1 characters stand for themselves; the other bytes take the characters from
    U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
