# SPDX-License-Identifier: MIT
"""A network whose authority key was stolen, and what the thief and the operators do then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from authority.network import Member, Network
from authority.state_files import DAY

from gmesh.authority.restore import Restored
from gmesh.keyfiles import save_key
from gmesh.trust.ceremony import attach, rotate_authority, sign_detached
from gmesh.trust.documents import Certificate, Crl, Document, Genesis, Policy, parse_document, sign_document
from gmesh.trust.encoding import b64url_encode


class Theft:
    """
    A network whose authority key a thief has, too.

    @ivar key: the stolen one.
    @ivar backup: of before anything else happened, with the member C{pump-1}; None for the database itself.
    """

    def __init__(self, network: Network, path: Path) -> None:
        self.network = network
        self.path = path
        self.key = network.keys.authority
        self.honest = network.joined("pump-1")
        self.backup: Path | None = self.take_backup()
        self.genesis = self.successor()

    def take_backup(self) -> Path:
        answer = self.network.admin("POST", "/admin/backup")
        assert answer.status == 201, answer.body
        self.network.clock.advance(1)  # the next one gets another name
        return self.network.path / "backups" / str(answer.json["file"])

    def successor(self) -> Document[Genesis]:
        """The genesis with a new key alone, which is held, but not published yet."""
        network = self.network
        self.new = network.keys.signing()
        save_key(network.path / "authority-2.key", self.new)
        genesis = rotate_authority(network.genesis, network.now, add=self.new.public, stolen=True)
        network.restart()
        return attach(genesis, [sign_detached(genesis, network.keys.root)], network.genesis)

    def rotate(self) -> None:
        """Publish it."""
        answer = self.network.admin("POST", "/admin/genesis", {"genesis": self.genesis.as_dict()})
        assert answer.status == 201, answer.body
        self.network.keys.authority = self.new
        self.network.clock.advance(2)

    def held(self, struct: type[Any], name: str = "node") -> Path:
        """The file of a node that follows the authority."""
        return self.file(name, parse_document(self.network.ask("GET", f"/{struct.TYPE}").body, struct))

    def file(self, name: str, document: Document[Any]) -> Path:
        path = self.path / f"{name}-{document.type}.json"
        path.write_bytes(document.encode())
        return path

    def forged(self, struct: type[Any], **changed: Any) -> Path:
        """A document as served now, changed and signed by the thief."""
        body = parse_document(self.network.ask("GET", f"/{struct.TYPE}").body, struct).body
        return self.file("thief", sign_document(msgspec.structs.replace(body, **changed), [self.key]))

    def restore(self, crls: list[Path], policies: list[Path], **more: Any) -> Restored:
        """Stop, restore the backup, start."""
        self.network.stop()
        self.network.clock.advance(5)
        try:
            return self.network.restore(self.backup, crls, policies, **more)
        finally:
            self.network.clock.advance(1)
            self.network.start()

    def restore_honestly(self) -> Restored:
        return self.restore([self.held(Crl)], [self.held(Policy)])

    def forget_genesis(self, first: bytes) -> None:
        """Somebody puts the genesis file of before back, whose bytes these are."""
        (self.network.path / "genesis.json").write_bytes(first)
        (self.network.path / "genesis.1.json").unlink()

    def lose_database(self, rest: bytes | None = b"lost") -> None:
        """The disk loses it, and keeps this instead."""
        self.network.lose_database()
        if rest is not None and self.network.engine is None:
            (self.network.path / "authority.sqlite").write_bytes(rest)

    def intruder(self, signer: Any = None, **changed: Any) -> Member:
        """Somebody with a certificate that the thief wrote."""
        network = self.network
        member = network.member(network.keys.signing())
        body = Certificate(
            network_id=network.network_id,
            serial=77,
            name="gate",
            node_key=b64url_encode(member.node.public),
            noise_key=b64url_encode(member.noise.public),
            roles=("anchor",),
            not_before=network.now - 60,
            not_after=network.now + DAY,
            issued_at=network.now - 60,
        )
        member.certificate = sign_document(msgspec.structs.replace(body, **changed), [signer or self.key])
        return member

    def members(self) -> list[str]:
        return [row["name"] for row in self.network.admin("GET", "/admin/nodes").json["nodes"]]
