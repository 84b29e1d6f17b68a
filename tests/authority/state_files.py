# SPDX-License-Identifier: MIT
"""A test network's keys, and the authority's directory as C{gmesh init} makes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gmesh.trust.documents import AuthorityKey, Document, Genesis, PolicyFloor, RootKeys, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey

START = 1_800_000_000
DAY = 86_400
POLICY_TEXT = {
    "certificate": {"default": DAY, "max": 30 * DAY, "renew_grace": 30 * DAY},
    "max_hops": 16,
    "max_nodes": 100,
    "rules": [{"effect": "allow", "from": ["*"], "to": ["*"], "services": ["*"]}],
    "control": {"shutdown": "administer", "ping_report": "read"},
    "stale_grace": 7 * DAY,
}


class Keys:
    """Every private key of a test network, made from a counter."""

    def __init__(self) -> None:
        self._made = 0
        self.root = self.signing()
        self.authority = self.signing()
        self.admin = self.signing()
        self.operator = self.signing()
        self.reader = self.signing()

    def _seed(self) -> bytes:
        self._made += 1
        return bytes([8, self._made % 251, self._made // 251]) + bytes(range(29))

    def signing(self) -> SigningKey:
        return SigningKey.from_seed(self._seed())

    def noise(self) -> NoiseKey:
        return NoiseKey.from_private(self._seed())


def make_genesis(keys: Keys, now: int = START) -> Document[Genesis]:
    """A root-signed genesis, version 1."""
    years = 10 * 365 * DAY
    return sign_document(
        Genesis(
            version=1,
            issued_at=now,
            expires_at=now + years,
            network="test",
            root=RootKeys(keys=(b64url_encode(keys.root.public),), threshold=1),
            authority=(
                AuthorityKey(key=b64url_encode(keys.authority.public), valid_from=now, valid_to=now + years),
            ),
            suites=("Noise_XX_25519_ChaChaPoly_SHA256",),
            anchors=(),
            authority_urls=("http://127.0.0.1:8440",),
            policy=PolicyFloor(version=0),
        ),
        [keys.root],
    )


def write_state(
    path: Path, keys: Keys, now: int = START, policy: dict[str, Any] = POLICY_TEXT
) -> Document[Genesis]:
    """The authority's directory as C{gmesh init} makes it."""
    path.mkdir(mode=0o700, parents=True)
    genesis = make_genesis(keys, now)
    (path / "genesis.json").write_bytes(genesis.encode())
    key_file = path / "authority.key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(keys.authority.to_pem())
    people = [(keys.admin, "administer"), (keys.operator, "operate"), (keys.reader, "read")]
    operators = [{"key": b64url_encode(key.public), "role": role, "name": role} for key, role in people]
    (path / "operators.json").write_text(json.dumps(operators))
    (path / "policy-initial.json").write_text(json.dumps(policy))
    return genesis
