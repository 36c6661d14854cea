"""Policies and yardsticks: each module or package here with a `POLICY` is one, and needs no other registration."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module

from messctl.errors import UnknownNameError, UsageError
from messctl.policies.base import LiveBuild, LivePolicy, Played, Policy, PolicyKind, Rounds, Streamed
from messctl.policies.lottery import Lottery
from messctl.zoo import Settings

__all__ = [
    "LiveBuild",
    "LivePolicy",
    "Lottery",
    "Played",
    "Policy",
    "PolicyKind",
    "Rounds",
    "Streamed",
    "build",
    "default_names",
    "kind_of",
    "kinds",
    "live_build",
    "live_names",
]


def kinds() -> dict[str, PolicyKind]:
    """Return all kinds of policy by name, from the worst to the best informed."""
    modules = (import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    found: list[PolicyKind] = [module.POLICY for module in modules if hasattr(module, "POLICY")]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: kind.rank)}


def default_names(models: Sequence[str]) -> list[str]:
    """Return the names of all policies that a replay of these models shows, in order."""
    return [
        f"{kind.name}:{choice}" if choice else kind.name
        for kind in kinds().values()
        if kind.by_default
        for choice in (kind.choices(models) if kind.choices else [""])
    ]


def kind_of(name: str) -> PolicyKind:
    """Return the kind of `name` or `name:argument`. Raises UnknownNameError."""
    known = kinds()
    kind, _, argument = name.partition(":")
    if kind not in known or (argument and not known[kind].choices):
        raise UnknownNameError("policy", name, known)
    return known[kind]


def build(name: str, rounds: Rounds, settings: Settings) -> Policy:
    """Build the policy `name` or `name:argument`. Raises UnknownNameError, UsageError."""
    return kind_of(name).build(name.partition(":")[2] or None, rounds, settings)


def live_names() -> list[str]:
    """Return the names of the policies that can serve live; one that serves a named model is not among them."""
    return [name for name, kind in kinds().items() if kind.live and not kind.choices]


def live_build(name: str) -> LiveBuild:
    """Return what builds the policy `name` to serve live. Raises UnknownNameError, UsageError if it cannot."""
    build_live = kind_of(name).live
    if build_live is None:
        named = [f"{kind.name}:<model>" for kind in kinds().values() if kind.live and kind.choices]
        able = " or ".join(repr(each) for each in (*live_names(), *named))
        raise UsageError(f"policy {name!r} cannot serve live; use {able}")
    return build_live
