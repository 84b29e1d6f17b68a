# SPDX-License-Identifier: MIT
"""
The Noise keys of a node: the one its certificate names, the next one, and those that end.

A key is on disk before any certificate names it, and is dropped when the last that did has ended.
Tests: C{tests/node/test_noise_keys.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from gmesh.errors import DocumentRefused
from gmesh.node.identity_store import Identity, NodeStore
from gmesh.node.limits import MAX_OLD_NOISE_KEYS, NOISE_KEY_LIFE
from gmesh.node.node_state import NodeState
from gmesh.trust.documents import Certificate
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import KEY_SIZE, NoiseKey
from gmesh.trust.limits import CERTIFICATE_LEEWAY

__all__ = ["NoiseKeys"]


class NoiseKeys:
    """
    What C{noise.key} holds.

    In the file, keys before the one in use are older, one behind it is to be certified next.

    @ivar current: the one in use.
    """

    def __init__(self, identity: Identity, store: NodeStore, entropy: Callable[[int], bytes]) -> None:
        self.current = identity.noise_key
        self._store = store
        self._state: NodeState = identity.state
        self._entropy = entropy
        keys = {key.public: key for key in identity.noise_keys or (identity.noise_key,)}
        names = list(keys)
        at = names.index(self.current.public)
        self._old = {_text(keys[name]): keys[name] for name in names[:at]}
        self._next = keys[names[-1]] if names[at + 1 :] else None
        for name in self._old:
            self._state.noise_ends.setdefault(name, identity.certificate.body.not_after)
        self._state.noise_made_at = self._state.noise_made_at or identity.certificate.body.issued_at

    def usable(self) -> tuple[NoiseKey, ...]:
        """Every key that some certificate of ours may still name, the one in use first."""
        return (self.current, *self._old.values())

    def to_certify(self, now: float) -> bytes:
        """
        The public key for the next certificate: a new one, if the one in use has served its time.

        @raise StoreError: if a new one cannot be written; nothing has changed then.
        """
        if self._next is None:
            if now < self._state.noise_made_at + NOISE_KEY_LIFE:
                return self.current.public
            key = NoiseKey.from_private(self._entropy(KEY_SIZE))
            self._store.save_noise_keys((*self._old.values(), self.current, key))
            self._next = key
        return self._next.public

    def find(self, certificate: Certificate) -> NoiseKey:
        """@raise DocumentRefused: if the certificate names no key that we hold."""
        for key in (self.current, self._next, *self._old.values()):
            if key is not None and _text(key) == certificate.noise_key:
                return key
        raise DocumentRefused("wrong-certificate", "the certificate names a Noise key that is not ours")

    def certified(self, new: Certificate, old: Certificate, now: float) -> bool:
        """
        A certificate came into use, on disk already.

        @return: True if it names another key than the one before.
        @raise StoreError: if keys that have ended cannot be dropped from the file; nothing else fails.
        """
        key = self.find(new)
        changed = key is not self.current
        if changed:
            self._old[_text(self.current)] = self.current
            self._state.noise_ends[_text(self.current)] = old.not_after
            self._old.pop(_text(key), None)
            self.current = key
            self._next = None
            self._state.noise_made_at = int(now)
        self._drop(now)
        return changed

    def _drop(self, now: float) -> None:
        ends = self._state.noise_ends
        over = [name for name in self._old if now > ends.get(name, 0) + CERTIFICATE_LEEWAY]
        over += list(self._old)[: max(0, len(self._old) - len(over) - MAX_OLD_NOISE_KEYS)]
        for name in over:
            self._old.pop(name, None)
        self._state.noise_ends = {name: ends[name] for name in self._old if name in ends}
        if over:
            waiting = () if self._next is None else (self._next,)
            self._store.save_noise_keys((*self._old.values(), self.current, *waiting))


def _text(key: NoiseKey) -> str:
    return b64url_encode(key.public)
