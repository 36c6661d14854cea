"""Keys: who asks. Only hashes are kept, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable

from messctl.errors import UsageError
from messctl.server.errors import ProtocolError
from messctl.zoo.tenants import HASH, Tenant

PREFIX = "messctl-"
BYTES = 32
"""The random part of a new key. It is so long that a plain hash keeps it."""
BEARER = b"bearer "


def new_key() -> str:
    """Return a new key."""
    return PREFIX + secrets.token_urlsafe(BYTES)


def hash_of(key: str) -> str:
    """Return the hash of a key, as zoo.yaml holds it."""
    return HASH + hashlib.sha256(key.encode()).hexdigest()


class Keys:
    """The keys of tenants. Raises UsageError for a key that is not in the environment, or that two tenants share."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self._hashes: dict[str, str] = {}
        for tenant in tenants:
            held = tenant.key_hash or _from_environment(tenant)
            if held in self._hashes.values():
                raise UsageError(f"tenant {tenant.name!r} has the key of another one; give each tenant its own key")
            self._hashes[tenant.name] = held

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def tenant_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the name of the tenant whose key a request carries. Raises ProtocolError."""
        given = next((value for name, value in headers if name == b"authorization"), b"")
        if not given.lower().startswith(BEARER):
            raise _refused("no key was given; send it in the header Authorization, after Bearer")
        digest = HASH + hashlib.sha256(given[len(BEARER) :].strip()).hexdigest()
        found = ""
        for name, held in self._hashes.items():  # all of them, so that the time says nothing
            found = name if hmac.compare_digest(held, digest) else found
        if not found:
            raise _refused("the key is not known here")
        return found


def _from_environment(tenant: Tenant) -> str:
    key = os.environ.get(str(tenant.key_env), "").strip()
    if not key:
        raise UsageError(f"tenant {tenant.name!r} has its key in {tenant.key_env}, which is not set: export it first")
    return hash_of(key)


def _refused(message: str) -> ProtocolError:
    return ProtocolError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
