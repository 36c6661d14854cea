"""The key that a server of models wants."""

from __future__ import annotations

import os
from dataclasses import dataclass

from messctl.backends.openai_errors import server_error
from messctl.zoo import ModelSpec


@dataclass(frozen=True, slots=True)
class Key:
    """The name of the environment variable with a server's key. The key is read when it is used, and not stored."""

    variable: str | None

    @classmethod
    def of(cls, model: ModelSpec) -> Key:
        """Return a model's key. Raises BackendError if the variable is not set, or cannot be a key."""
        name = model.key_env
        if name is None:
            return cls(None)
        value = os.environ.get(name, "").strip()
        if not value:
            raise server_error(model, f"needs a key, and {name} is not set: export {name}=… first")
        if not (value.isascii() and value.isprintable()):
            raise server_error(model, f"needs a key, and {name} holds characters that no key has: export it again")
        return cls(name)

    def header(self) -> dict[str, str]:
        """Return the header that carries the key; none without a key."""
        return {"Authorization": f"Bearer {os.environ[self.variable].strip()}"} if self.variable else {}

    def hide(self, text: str) -> str:
        """Return `text` without the key, in case a server repeats it."""
        key = os.environ.get(self.variable, "").strip() if self.variable else ""
        return text.replace(key, "(the key)") if key else text
