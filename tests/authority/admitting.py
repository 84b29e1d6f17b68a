# SPDX-License-Identifier: MIT
"""A network whose genesis names an admission key, which the authority does not have."""

from __future__ import annotations

from typing import Any

import msgspec
from authority.network import Answered, Member, Network
from authority.state_files import DAY

from gmesh.trust.ceremony import attach, next_genesis, sign_detached
from gmesh.trust.documents import Admission, Certificate, Document, Genesis, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.keys import SigningKey
from gmesh.trust.state import TrustState


class Admitting:
    """
    The holder of the admission key.

    @param required_from: seconds from now until a certificate needs an admission; None for a genesis that
        does not name the key.
    """

    def __init__(self, network: Network, required_from: int | None = 0) -> None:
        self.network = network
        self.key = network.keys.signing()
        self.genesis = network.genesis
        if required_from is not None:
            self.require(self.key, required_from)

    def require(self, key: SigningKey, required_from: int = 0) -> None:
        """Publish a genesis that names this key."""
        network, before = self.network, self.genesis
        rule = {"keys": [b64url_encode(key.public)], "required_from": network.now + required_from}
        unsigned = next_genesis(before, network.now, {"admission": rule})
        self.genesis = attach(unsigned, [sign_detached(unsigned, network.keys.root)], before)
        answer = network.admin("POST", "/admin/genesis", {"genesis": self.genesis.as_dict()})
        assert answer.status == 201, answer.body
        network.clock.advance(1)

    def admission(
        self, member: Member, called: str, *roles: str, signer: SigningKey | None = None, **changed: Any
    ) -> Document[Admission]:
        """What admits this host."""
        body = Admission(
            network_id=self.network.network_id,
            name=called,
            node_key=b64url_encode(member.node.public),
            roles=roles or ("client",),
            not_after=self.network.now + 365 * DAY,
        )
        return sign_document(msgspec.structs.replace(body, **changed), [signer or self.key])

    def bring(self, *admissions: Document[Admission]) -> Answered:
        """Upload them."""
        value = {"admissions": [admission.as_dict() for admission in admissions]}
        return self.network.admin("POST", "/admin/admissions", value)

    def listed(self) -> dict[str, Any]:
        """Who is a member or asks, and until when they are admitted."""
        rows = self.network.admin("GET", "/admin/admissions").json["admissions"]
        return {row["name"]: row["admitted_until"] for row in rows}

    def node_trust(self) -> TrustState:
        """What an honest node believes."""
        versions = range(1, self.genesis.body.version + 1)
        chain = [self.network.ask("GET", f"/genesis/{version}").body for version in versions]
        return TrustState(self.network.network_id, [parse_document(each, Genesis) for each in chain])

    def believed(self, certificate: Document[Certificate] | None) -> bool:
        """True if an honest node takes this certificate. @raise PeerRefused: if it does not."""
        assert certificate is not None
        self.node_trust().judge_certificate(certificate, self.network.now)
        return True
