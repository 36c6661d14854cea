"""The rules for the keys of a model at a server: its url, its key, and what requests leave out."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from messctl.zoo.schema import LIST, Choice, Place, accepted

LOCAL_NAME = "localhost"
MAX_TOKENS = "max_tokens"
MAX_TOKENS_KEYS = (MAX_TOKENS, "max_completion_tokens")
"""The names under which servers take the limit of an answer."""
FEATURES = ("tools", "images", "audio", "response_format", "logprobs", "n")
"""What a request may need and a server may lack; `n` is more than one answer."""
PARAMETERS = (MAX_TOKENS, "temperature", "top_p", "seed", "stream", "stream_options")
"""The parameters of a request that can be left out, as `omit` names them."""


def is_local(host: str) -> bool:
    """Return whether only programs on this machine reach a host, as its name or address says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == LOCAL_NAME or host.endswith(f".{LOCAL_NAME}")


def is_loopback(url: str) -> bool:
    """Return whether a server is on this machine, so that requests to it cross no network."""
    return is_local(urlsplit(url).hostname or "")


def exposed_key(url: str, key_env: str | None, *, allow_http: bool) -> str | None:
    """Return what is wrong if a key would cross a network as plain text, for all to read; None if it would not."""
    if key_env is None or allow_http or urlsplit(url).scheme != "http" or is_loopback(url):
        return None
    return (
        f"would send the key in {key_env} as plain text to another machine; use https, or, if you trust the network "
        "in between, set allow_http: true"
    )


@dataclass(frozen=True, slots=True)
class NamesAmong:
    """The rule for a list of some of `words`; empty if it is left out."""

    words: tuple[str, ...]

    def read(self, place: Place) -> tuple[str, ...]:
        """See `Rule`."""
        if not place.empty and place.kind != LIST:
            raise place.error(f"{place.name} must be a list, as in [{self.words[0]}]")
        return tuple(dict.fromkeys(Choice(self.words).read(each) for each in place.elements()))

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        sound = isinstance(value, tuple) and all(each in self.words for each in value)
        return None if sound else f"some of {', '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """The rule for the base url of an OpenAI-compatible server, such as http://host:8080/v1.

    A url that is refused is not repeated in the message, because it may contain a password.
    """

    secret: ClassVar[bool] = True

    def read(self, place: Place) -> str:
        """See `Rule`."""
        value: str | None = accepted(self, place)
        if value is None:
            raise place.error(f"{place.name} must be {self._wanted}")
        return value.rstrip("/")

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        if value is None:
            return None
        try:
            plain = isinstance(value, str) and value.isprintable() and not {" ", "\\"} & set(value)
            parts = urlsplit(value if plain else "")  # some readers take a backslash for a slash
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            return self._wanted
        if "@" in parts.netloc:
            return "a url without a user or password; set key_env to the environment variable that holds the key"
        if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/chat/completions"):
            return f"{self._wanted}, with nothing after it"
        return None

    _wanted: ClassVar[str] = "the base url of an OpenAI-compatible server, such as http://localhost:8080/v1"


@dataclass(frozen=True, slots=True)
class VariableName:
    """The rule for an environment variable's name, in capitals so that a key is never taken for one; or None."""

    secret: ClassVar[bool] = True

    def read(self, place: Place) -> str | None:
        """See `Rule`."""
        return accepted(self, place)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        if value is None or (isinstance(value, str) and re.fullmatch("[A-Z_][A-Z0-9_]*", value)):
            return None
        return "the name of an environment variable in capitals, such as OPENAI_API_KEY, and not the key itself"
