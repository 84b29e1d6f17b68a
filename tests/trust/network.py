# SPDX-License-Identifier: MIT
"""
A small network for the tests of trust: keys from names, every document with good defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from gmesh.trust.documents import (
    Admission,
    AdmissionRule,
    Anchor,
    AuditHead,
    AuthorityKey,
    Certificate,
    CertificateLife,
    Command,
    CommandReceipt,
    CommandTarget,
    Crl,
    Document,
    Genesis,
    NumberedDigest,
    Operator,
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
from gmesh.trust.revocation import make_crl
from gmesh.trust.verify import network_id

NOW = 1_800_000_000
DAY = 86_400
NO_DIGEST = sha256(b"").hexdigest()
SUITES = ("Noise_XX_25519_ChaChaPoly_SHA256", "Noise_XX_25519_AESGCM_BLAKE2s")


def key(name: str) -> SigningKey:
    """The signing key everybody calls by this name."""
    return SigningKey.from_seed(sha256(name.encode()).digest())


def noise_key(name: str) -> NoiseKey:
    """The Noise key everybody calls by this name."""
    return NoiseKey.from_private(sha256(b"noise" + name.encode()).digest())


def spelled(*keys: SigningKey) -> tuple[str, ...]:
    """Public keys as documents spell them."""
    return tuple(b64url_encode(one.public) for one in keys)


class Network:
    """One genesis after another, and what the authority signs under them."""

    def __init__(
        self, roots: Sequence[str] = ("root",), threshold: int = 1, authority: Sequence[str] = ("authority",)
    ) -> None:
        self.authority = key(authority[0])
        body = Genesis(
            version=1,
            issued_at=NOW,
            expires_at=NOW + 3650 * DAY,
            network="test",
            root=RootKeys(keys=spelled(*map(key, roots)), threshold=threshold),
            authority=authority_list(authority),
            suites=SUITES,
            anchors=(Anchor(name="hub", endpoint="tcp:hub.example:7400"),),
            authority_urls=("http://authority.example:8400",),
            policy=PolicyFloor(version=1),
        )
        self.chain = [sign_document(body, [key(name) for name in roots])]
        self.network_id = network_id(self.chain[0])

    @property
    def genesis(self) -> Document[Genesis]:
        """The newest."""
        return self.chain[-1]

    def next_genesis(
        self,
        signers: Sequence[str] = ("root",),
        roots: Sequence[str] | None = None,
        threshold: int = 1,
        authority: Sequence[str] = ("authority",),
        keep: bool = True,
        **changes: Any,
    ) -> Document[Genesis]:
        """A genesis that follows the newest one; kept as the newest unless told otherwise."""
        current = self.genesis
        root = current.body.root
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "version": current.body.version + 1,
            "issued_at": NOW,
            "expires_at": NOW + 3650 * DAY,
            "network": "test",
            "root": root if roots is None else RootKeys(keys=spelled(*map(key, roots)), threshold=threshold),
            "authority": authority_list(authority),
            "suites": SUITES,
            "anchors": (),
            "authority_urls": (),
            "policy": PolicyFloor(version=1),
            "previous": current.digest,
        }
        document = sign_document(Genesis(**(fields | changes)), [key(name) for name in signers])
        if keep:
            self.chain.append(document)
        return document

    def certificate(
        self, name: str = "node", signer: SigningKey | None = None, **changes: Any
    ) -> Document[Certificate]:
        """A certificate of the node of this name."""
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "serial": 7,
            "name": name,
            "node_key": spelled(key(name))[0],
            "noise_key": b64url_encode(noise_key(name).public),
            "roles": ("relay",),
            "not_before": NOW,
            "not_after": NOW + DAY,
            "issued_at": NOW,
        }
        return sign_document(Certificate(**(fields | changes)), [signer or self.authority])

    def require_admission(self, *names: str, required_from: int = NOW) -> Document[Genesis]:
        """A genesis that names the keys called so."""
        return self.next_genesis(
            admission=AdmissionRule(keys=spelled(*map(key, names)), required_from=required_from)
        )

    def admission(
        self, name: str = "node", signer: SigningKey | None = None, **changes: Any
    ) -> Document[Admission]:
        """What admits the node of this name."""
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "name": name,
            "node_key": spelled(key(name))[0],
            "roles": ("client", "relay"),
            "not_after": NOW + 365 * DAY,
        }
        return sign_document(Admission(**(fields | changes)), [signer or key("admission")])

    def crl(
        self,
        number: int = 1,
        revoked: Iterable[tuple[int, int, int]] = (),
        revoked_keys: Iterable[tuple[str, int]] = (),
        signer: SigningKey | None = None,
        issued_at: int = NOW,
        revoked_nodes: Iterable[tuple[str, int, int, int]] = (),
    ) -> Document[Crl]:
        """A CRL of these entries."""
        body = make_crl(
            self.network_id, number, issued_at, issued_at + DAY, revoked, revoked_nodes, revoked_keys
        )
        return sign_document(body, [signer or self.authority])

    def policy(self, version: int = 1, signer: SigningKey | None = None, **changes: Any) -> Document[Policy]:
        """A policy that allows everything."""
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "version": version,
            "issued_at": NOW,
            "expires_at": NOW + 90 * DAY,
            "certificate": CertificateLife(default=DAY, max=30 * DAY, renew_grace=30 * DAY),
            "max_hops": 32,
            "max_nodes": 1000,
            "rules": (Rule(effect="allow", sources=("*",), to=("*",), services=("*",)),),
            "operators": (Operator(key=spelled(key("operator"))[0], role="operate"),),
            "control": {"reload": "operate", "shutdown": "administer"},
            "stale_grace": 7 * DAY,
        }
        return sign_document(Policy(**(fields | changes)), [signer or self.authority])

    def status(
        self,
        number: int = 1,
        crl: Document[Crl] | None = None,
        policy: Document[Policy] | None = None,
        signer: SigningKey | None = None,
        **changes: Any,
    ) -> Document[Status]:
        """A status that names these documents and the newest genesis."""
        crl = crl or self.crl()
        policy = policy or self.policy()
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "number": number,
            "issued_at": NOW,
            "expires_at": NOW + 3600,
            "genesis": VersionedDigest(version=self.genesis.body.version, digest=self.genesis.digest),
            "policy": VersionedDigest(version=policy.body.version, digest=policy.digest),
            "crl": NumberedDigest(number=crl.body.number, digest=crl.digest),
            "commands": NumberedDigest(number=0, digest=NO_DIGEST),
            "audit": AuditHead(epoch=0, size=10, head=NO_DIGEST),
        }
        return sign_document(Status(**(fields | changes)), [signer or self.authority])

    def command(self, signer: SigningKey | None = None, **changes: Any) -> Document[Command]:
        """A command to everybody."""
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "id": "0" * 32,
            "number": 1,
            "command": "reload",
            "target": CommandTarget(all=True),
            "arguments": {},
            "issued_at": NOW,
            "expires_at": NOW + 3600,
        }
        return sign_document(Command(**(fields | changes)), [signer or self.authority])

    def receipt(self, name: str = "node", **changes: Any) -> Document[CommandReceipt]:
        """A receipt by the node of this name."""
        fields: dict[str, Any] = {
            "network_id": self.network_id,
            "command": "0" * 32,
            "outcome": "done",
            "detail": "reloaded",
            "at": NOW,
        }
        return sign_document(CommandReceipt(**(fields | changes)), [key(name)])


def authority_list(names: Sequence[str], valid_from: int = NOW) -> tuple[AuthorityKey, ...]:
    """Authority keys, valid for ten years."""
    return tuple(
        AuthorityKey(key=spelled(key(name))[0], valid_from=valid_from, valid_to=NOW + 3650 * DAY)
        for name in names
    )
