# SPDX-License-Identifier: MIT
"""
The MAC behind message 1, which shows whose it is before a key is exchanged for it.

Its key comes of the static X25519 keys of both ends, so nobody else can make it, no member and no relay.
It is computed once for each member and kept.
Tests: C{tests/endtoend/test_handshake_mac.py}.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from gmesh.endtoend import limits
from gmesh.errors import DocumentRefused
from gmesh.token_bucket import TokenBucket
from gmesh.trust.keys import NoiseKey
from gmesh.wire.codec import Buffer
from gmesh.wire.limits import E2E_MAC
from gmesh.wire.paths import pack_counter

__all__ = ["HandshakeMacs"]

_LABEL = b"gmesh-e2e-mac/1"


class HandshakeMacs:
    """
    Makes the MACs of this node, and checks those of others.

    @param network_id: 32 hex characters.
    """

    def __init__(self, network_id: str) -> None:
        self._network_id = bytes.fromhex(network_id)
        self._keys: dict[tuple[bytes, bytes], bytes | None] = {}
        self._exchanges: TokenBucket | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def mac(self, own: NoiseKey, peer: bytes, flow: bytes, number: int, message: Buffer) -> bytes:
        """
        What goes behind a message 1 of ours.

        @param peer: X25519 public key that the peer's certificate names.
        @param flow: handles of source and destination.
        @param number: of the handshake.
        @raise DocumentRefused: C{bad-key}, if every exchange with C{peer} yields zero.
        """
        key = self._key(own, peer)
        if key is None:
            raise DocumentRefused("bad-key", "an X25519 public key of low order")
        return _mac(key, _covered(flow, number, message))

    def proves(
        self,
        own_keys: Iterable[NoiseKey],
        peer: bytes,
        flow: bytes,
        number: int,
        body: Buffer,
        now: float,
    ) -> bool:
        """
        Was this written by the owner of C{peer}, to the owner of one of these?  False also if that is not
        known, since too many keys had to be computed lately.

        @param body: message 1 and the MAC behind it.
        """
        covered, mac = _covered(flow, number, body[:-E2E_MAC]), bytes(body[-E2E_MAC:])
        for own in own_keys:
            if (own.public, peer) not in self._keys and not self._may_exchange(now):
                continue
            key = self._key(own, peer)
            if key is not None and hmac.compare_digest(_mac(key, covered), mac):
                return True
        return False

    def _may_exchange(self, now: float) -> bool:
        if self._exchanges is None:
            self._exchanges = TokenBucket(limits.MAC_KEY_RATE, limits.MAC_KEY_BURST, now)
        return self._exchanges.take(now)

    def _key(self, own: NoiseKey, peer: bytes) -> bytes | None:
        """None for a key with which there is no secret, which is remembered too."""
        pair = (own.public, peer)
        if pair not in self._keys:
            while len(self._keys) >= limits.MAX_MAC_KEYS:
                del self._keys[next(iter(self._keys))]
            try:
                shared = own.exchange(peer)
            except DocumentRefused:
                self._keys[pair] = None
            else:
                self._keys[pair] = hmac.digest(
                    shared, b"".join((_LABEL, self._network_id, *sorted(pair))), "sha256"
                )
        return self._keys[pair]


def _covered(flow: bytes, number: int, message: Buffer) -> bytes:
    """What a MAC is of: a long message is hashed once, however many keys are tried."""
    return b"".join((flow, pack_counter(number), sha256(message).digest()))


def _mac(key: bytes, covered: bytes) -> bytes:
    return hmac.digest(key, covered, "sha256")[:E2E_MAC]
