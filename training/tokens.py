"""The byte-level tokenizer: token i is the byte i; three control tokens follow."""

from __future__ import annotations

from typing import Final

BEGIN: Final = 256
ANSWER: Final = 257
END: Final = 258
VOCAB_SIZE: Final = 259

CONTROL_TEXTS: Final = {BEGIN: "<|begin|>", ANSWER: "<|answer|>", END: "<|end|>"}


def encode_prompt(prompt: str) -> list[int]:
    """Return the input tokens of a model, as the chat template makes them from one user message."""
    return [BEGIN, *prompt.encode(), ANSWER]


def encode_answer(answer: str) -> list[int]:
    """Return the tokens of the expected answer."""
    return [*answer.encode(), END]


def decode(tokens: list[int]) -> str:
    """Return the text of `tokens`. Control tokens are left out, and invalid UTF-8 is replaced."""
    return bytes(token for token in tokens if token < BEGIN).decode(errors="replace")


def byte_texts() -> list[str]:
    """Return each byte as one printable character, as in GGUF's "gpt2" vocabularies.

    Printable Latin-1 characters represent themselves. The other bytes use the characters from
    U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
