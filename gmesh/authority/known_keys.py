# SPDX-License-Identifier: MIT
"""
Keys that a signature is checked by without asking the database: operators of the policy in force, and
members that were served since the start.

What a key may do is never read here; only whose noise it is, if a signature under it is bad.
Tests: C{tests/authority/test_noise.py}.
"""

from __future__ import annotations

from collections import OrderedDict

from gmesh.authority import limits
from gmesh.authority.issuer import DocumentIssuer
from gmesh.trust.documents import Document, Policy
from gmesh.trust.encoding import b64url_decode
from gmesh.trust.keys import KEY_SIZE, key_id

__all__ = ["KnownKeys"]


class KnownKeys:
    """Public keys by key id, and the requests that were lately signed by them."""

    def __init__(self, issuer: DocumentIssuer) -> None:
        self._issuer = issuer
        self._policy: Document[Policy] | None = None
        self._operators: dict[str, bytes] = {}
        self._members: OrderedDict[str, bytes] = OrderedDict()
        self._requests: OrderedDict[tuple[str, str], None] = OrderedDict()

    def operator(self, name: str) -> bytes | None:
        """The public key of this operator."""
        policy = self._issuer.policy
        if policy is not self._policy:
            keys = [b64url_decode(entry.key, KEY_SIZE) for entry in policy.body.operators]
            self._policy, self._operators = policy, {key_id(key): key for key in keys}
        return self._operators.get(name)

    def member(self, name: str) -> bytes | None:
        """The public key of this member, if it was served lately."""
        public = self._members.get(name)
        if public is not None:
            self._members.move_to_end(name)
        return public

    def served(self, name: str, public: bytes) -> None:
        """The owner of this key proved to be a member."""
        self._members[name] = public
        self._members.move_to_end(name)
        if len(self._members) > limits.KEYS_REMEMBERED:
            self._members.popitem(last=False)

    def first_time(self, name: str, nonce: str) -> bool:
        """Whether this well-signed request was not seen lately: else somebody plays it again."""
        if (name, nonce) in self._requests:
            return False
        self._requests[name, nonce] = None
        if len(self._requests) > limits.KEYS_REMEMBERED:
            self._requests.popitem(last=False)
        return True
