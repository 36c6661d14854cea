"""The models at a server, and how large each of them is: as the server says it, or as its name says it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from messctl.errors import BackendError, UsageError
from messctl.zoo.cost_notes import FROM_SIZE, GUESS
from messctl.zoo.models import ModelSpec

ListEntries = Callable[[ModelSpec], Sequence[Mapping[str, Any]]]
"""Returns what a model's server says of each of its models. Raises BackendError."""
VERSION = "/v1"
_LISTING_S = 10.0
_ENDPOINTS = re.compile(r"/(?:chat/completions|completions|models)/*$")
_VERSIONED = re.compile(r"/v\d\w*(?:/|$)")

_UNITS = {"b": 1e9, "m": 1e6, "t": 1e12}
_NUMBER = r"(\d+(?:[.p]\d+)?)"
_ACTIVE = re.compile(rf"(?<![a-z0-9.])[ae]{_NUMBER}([bm])(?![a-z0-9])")
_EXPERTS = re.compile(rf"(?<![a-z0-9.])(\d+)x{_NUMBER}([bm])(?![a-z0-9])")
_WHOLE = re.compile(rf"(?<![a-z0-9.]){_NUMBER}([bmt])(?![a-z0-9])")
_EXPERTS_USED = 2
_NO_CHAT = re.compile(
    r"embed|rerank|whisper|(?<![a-z])tts|dall-e|moderation|transcri|(?<![a-z])(?:bge|e5|gte)-|minilm|"
    r"(?<![a-z])(?:image|realtime|sora|clip|stable-diffusion|flux)(?![a-z])"
)


@dataclass(frozen=True, slots=True)
class ServerModel:
    """A model at a server: the server's base url and host, its name there, and its size.

    parameters: the active parameters per token; None: unknown. why: where that number comes from.
    """

    url: str
    host: str
    model: str
    parameters: float | None
    why: str


def models_at(
    url: str, key_env: str | None, list_entries: ListEntries, *, allow_http: bool = False
) -> list[ServerModel]:
    """Return the models at a server that may answer prompts. `/v1` at the end of its url may be left out.

    key_env: the environment variable that holds its key. allow_http: the key may go over plain http to another machine.
    Raises UsageError for a url that is none, or over which the key must not go, and BackendError if the server gives no
    list of models, or an empty one.
    """
    failed: BackendError | None = None
    for base in base_urls(url):
        try:
            spec = ModelSpec(
                "models", url=base, key_env=key_env, timeout_s=_LISTING_S, retries=0, allow_http=allow_http
            )
        except UsageError as error:
            raise UsageError(f"--url {_without_password(url)}: {error}") from None
        try:
            entries = list_entries(spec)
        except BackendError as error:
            failed = failed or error
            continue
        names = [str(entry["id"]) for entry in entries if answers(str(entry["id"])) and str(entry["id"]).isprintable()]
        if not names:
            raise BackendError(f"--url {base}: the server lists no model that answers prompts; load one there first")
        sizes = {str(entry["id"]): stated_parameters(entry) for entry in entries}
        host = urlsplit(base).netloc
        return [ServerModel(base, host, name, *_size(name, sizes[name])) for name in dict.fromkeys(names)]
    reason = str(failed).partition("): ")[2] or str(failed)
    hint = "" if key_env else "; if it needs a key, name the variable that holds it with --key-env"
    raise BackendError(f"--url {_without_password(url)}: {reason}{hint}")


def base_urls(url: str) -> tuple[str, ...]:
    """Return the base urls to try for what a user gave: `host:8080`, `http://host:8080/v1/models` and the like."""
    full = url.strip() if "://" in url else f"http://{url.strip()}"
    full = _ENDPOINTS.sub("", full).rstrip("/")
    return (full,) if _VERSIONED.search(urlsplit(full).path) else (f"{full}{VERSION}", full)


def answers(name: str) -> bool:
    """Return whether a model at a server may answer prompts: its name is not one of an embedding model or the like."""
    return not _NO_CHAT.search(name.lower())


def stated_parameters(entry: Mapping[str, Any]) -> float | None:
    """Return the number of parameters in a server's entry for a model, as llama-server gives it; None without one."""
    meta = entry.get("meta")
    count = meta.get("n_params") if isinstance(meta, Mapping) else None
    return float(count) if isinstance(count, int | float) and count > 0 else None


def named_parameters(name: str) -> float | None:
    """Return the active parameters per token that a model's name tells; None if it tells none.

    `qwen2.5:7b` has 7e9, `qwen3-30b-a3b` 3e9, and `mixtral-8x7b` 14e9: two of its experts work on a token.
    """
    text = name.lower().replace("_", "-")
    active = _ACTIVE.search(text)
    if active:
        return _number(active[1], active[2])
    experts = _EXPERTS.search(text)
    if experts:
        return min(int(experts[1]), _EXPERTS_USED) * _number(experts[2], experts[3])
    whole = _WHOLE.search(text)
    return _number(whole[1], whole[2]) if whole else None


def _size(name: str, stated: float | None) -> tuple[float | None, str]:
    named = named_parameters(name)
    if stated is not None and named is None:
        return stated, f"{FROM_SIZE}{stated:.3g} parameters, as the server says"
    if named is not None:
        return named, f"{FROM_SIZE}{named:.3g} active parameters, by its name"
    return None, f"{GUESS}nothing says how large it is: write what it costs"


def _number(digits: str, unit: str) -> float:
    return float(digits.replace("p", ".")) * _UNITS[unit]


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", url)
