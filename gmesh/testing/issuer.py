# SPDX-License-Identifier: MIT
"""
A whole authority in a few lines, for tests: real keys, real documents, no daemon and no database.

Everything is made through L{gmesh.trust}; keys come from a seeded generator, so that a run repeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from gmesh.trust.documents import (
    Anchor,
    AuditHead,
    AuthorityKey,
    Certificate,
    CertificateLife,
    Crl,
    Document,
    Genesis,
    NumberedDigest,
    Policy,
    PolicyFloor,
    RootKeys,
    Rule,
    Status,
    VersionedDigest,
    sign_document,
)
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.verify import network_id

__all__ = ["Enrolled", "Issuer"]

DAY = 86400
YEAR = 365 * DAY
SUITES = ("Noise_XX_25519_ChaChaPoly_BLAKE2s", "Noise_XX_25519_AESGCM_SHA256")
ALLOW_ALL = Rule(effect="allow", sources=("*",), to=("*",), services=("*",))


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A node as it is right after C{gmesh join}."""

    node_key: SigningKey
    noise_key: NoiseKey
    certificate: Document[Certificate]

    @property
    def name(self) -> str:
        """Its certified name."""
        return self.certificate.body.name

    @property
    def handle(self) -> bytes:
        """Its routing handle."""
        return bytes.fromhex(self.node_key.key_id)[:8]


class Issuer:
    """
    Root, authority and every document they sign.

    @param wall: Unix seconds.
    @param random: where keys come from.
    @param anchors: (name, endpoint string) of the genesis.
    @param suites: those the genesis allows, the preferred one first.
    @ivar status_life: seconds that a status is valid.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        random: Random,
        anchors: Sequence[tuple[str, str]] = (),
        authority_urls: Sequence[str] = (),
        suites: Sequence[str] = SUITES,
    ) -> None:
        self._wall = wall
        self._random = random
        self._serial = 0
        self._number = 0
        self._ends: dict[str, int] = {}
        self._revoked_nodes: dict[str, tuple[str, int, int, int]] = {}
        self._revoked_keys: dict[str, int] = {}
        self._settings: dict[str, Any] = {
            "certificate": CertificateLife(default=DAY, max=30 * DAY, renew_grace=30 * DAY),
            "max_hops": 32,
            "max_nodes": 4096,
            "operators": (),
            "control": {},
            "stale_grace": 7 * DAY,
        }
        self._version = 0
        self.status_life = 3600
        self.root = self.new_key()
        self.authority = self.new_key()
        now = int(wall())
        self.genesis = sign_document(
            Genesis(
                version=1,
                issued_at=now,
                expires_at=now + 10 * YEAR,
                network="test",
                root=RootKeys(keys=(b64url_encode(self.root.public),), threshold=1),
                authority=(self._authority_key(),),
                suites=tuple(suites),
                anchors=tuple(Anchor(name=name, endpoint=endpoint) for name, endpoint in anchors),
                authority_urls=tuple(authority_urls),
                policy=PolicyFloor(version=1),
            ),
            [self.root],
        )
        self.genesis_chain: tuple[Document[Genesis], ...] = (self.genesis,)
        self.network_id = network_id(self.genesis)
        self.crl = self._make_crl()
        self.policy = self.publish_policy()
        self.status = self._make_status()

    def new_key(self) -> SigningKey:
        """A key of the seeded generator."""
        return SigningKey.from_seed(self._random.randbytes(32))

    @classmethod
    def unreachable(cls, anchors: Sequence[tuple[str, str]] = (), suites: Sequence[str] = SUITES) -> Issuer:
        """One of real time and fresh keys, for daemons; nobody answers at its URL."""
        return cls(time.time, SystemRandom(), anchors, ["http://127.0.0.1:9"], suites)

    @property
    def documents(self) -> tuple[Document[Any], ...]:
        """What a node holds beside its certificate."""
        return (self.crl, self.policy, self.status)

    def enrol(self, name: str, *roles: str, lifetime: int = DAY) -> Enrolled:
        """Admit a node."""
        node_key = self.new_key()
        noise_key = NoiseKey.from_private(self._random.randbytes(32))
        return Enrolled(node_key, noise_key, self.certify(node_key, noise_key, name, roles, lifetime))

    def write_state(self, node: Enrolled, directory: Path, *, cached: bool = True) -> None:
        """
        Make the state directory of a node, as C{gmesh join} does.

        @param cached: with the documents that its first heartbeat would bring.
        """
        directory.mkdir(mode=0o700, exist_ok=True)
        for file, key in (("identity.key", node.node_key), ("noise.key", node.noise_key)):
            (directory / file).touch(0o600)
            (directory / file).write_bytes(key.to_pem())
        for document in (self.genesis, node.certificate, *(self.documents if cached else ())):
            (directory / f"{document.type}.json").write_bytes(document.encode())

    def certify(
        self, node_key: SigningKey, noise_key: NoiseKey, name: str, roles: Sequence[str], lifetime: int = DAY
    ) -> Document[Certificate]:
        """A certificate with the next serial."""
        self._serial += 1
        now = int(self._wall())
        self._ends[node_key.key_id] = max(now + lifetime, self._ends.get(node_key.key_id, 0))
        return sign_document(
            Certificate(
                network_id=self.network_id,
                serial=self._serial,
                name=name,
                node_key=b64url_encode(node_key.public),
                noise_key=b64url_encode(noise_key.public),
                roles=tuple(roles),
                not_before=now,
                not_after=now + lifetime,
                issued_at=now,
            ),
            [self.authority],
        )

    def renew(self, node: Enrolled, lifetime: int = DAY) -> Enrolled:
        """The same node with a newer certificate."""
        body = node.certificate.body
        renewed = self.certify(node.node_key, node.noise_key, body.name, body.roles, lifetime)
        return Enrolled(node.node_key, node.noise_key, renewed)

    def revoke(self, node: Enrolled, *, key: bool = False) -> Document[Crl]:
        """Publish a CRL that names the node, whatever it holds, and its key when that is compromised."""
        node_id = node.node_key.key_id
        end = self._ends[node_id]
        self._revoked_nodes[node_id] = (node_id, self._serial + 1, end, 0)
        if key:
            self._revoked_keys[node_id] = end
        self.crl = self._make_crl()
        self.status = self._make_status()
        return self.crl

    def publish_policy(self, *rules: Rule, **changes: Any) -> Document[Policy]:
        """
        Publish the next policy; without rules everything is allowed.

        @param changes: other fields, which stay so until they are changed again.
        """
        now = int(self._wall())
        self._settings |= changes
        self._version += 1
        body = Policy(
            network_id=self.network_id,
            version=self._version,
            issued_at=now,
            expires_at=now + 90 * DAY,
            rules=rules or (ALLOW_ALL,),
            **self._settings,
        )
        self.policy = sign_document(body, [self.authority])
        if self._version > 1:
            self.status = self._make_status()
        return self.policy

    def publish_status(self) -> Document[Status]:
        """The next status over what is current."""
        self.status = self._make_status()
        return self.status

    def _make_crl(self) -> Document[Crl]:
        now = int(self._wall())
        self._number += 1
        body = Crl(
            network_id=self.network_id,
            number=self._number,
            issued_at=now,
            next_update=now + DAY,
            revoked=(),
            revoked_nodes=tuple(sorted(self._revoked_nodes.values())),
            revoked_keys=tuple(sorted(self._revoked_keys.items())),
        )
        return sign_document(body, [self.authority])

    def _make_status(self) -> Document[Status]:
        now = int(self._wall())
        self._number += 1
        body = Status(
            network_id=self.network_id,
            number=self._number,
            issued_at=now,
            expires_at=now + self.status_life,
            genesis=VersionedDigest(version=self.genesis.body.version, digest=self.genesis.digest),
            policy=VersionedDigest(version=self.policy.body.version, digest=self.policy.digest),
            crl=NumberedDigest(number=self.crl.body.number, digest=self.crl.digest),
            commands=self._newest_command(),
            audit=AuditHead(epoch=0, size=1, head="0" * 64),
        )
        return sign_document(body, [self.authority])

    def _newest_command(self) -> NumberedDigest:
        return NumberedDigest(number=0, digest="0" * 64)

    def _authority_key(self) -> AuthorityKey:
        """The authority's present key, as a genesis lists it."""
        now = int(self._wall())
        return AuthorityKey(
            key=b64url_encode(self.authority.public), valid_from=now, valid_to=now + 10 * YEAR
        )
