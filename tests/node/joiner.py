# SPDX-License-Identifier: MIT
"""A host without a certificate that dials an anchor in memory, and does as the test says."""

from __future__ import annotations

import json
from typing import Any

from node.managed_mesh import ManagedMesh, ManagedNode
from twisted.internet.protocol import Factory, Protocol

from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.relayed_requests import decode_answer, encode_question
from gmesh.trust.signed_requests import JOIN_TAG, sign_request
from gmesh.wire.frames import Kind, iter_frames, pack_frame
from gmesh.wire.handshake import encode_genesis_version
from gmesh.wire.limits import INITIATOR_READS
from gmesh.wire.messages import Close, CloseReason
from gmesh.wire.noise import NoiseSession
from gmesh.wire.preamble import encode_preamble, hop_prologue
from gmesh.wire.records import RecordReader, frame_record
from gmesh.wire.suites import Suite

__all__ = ["ANYWHERE", "Joiner", "join_request"]

ANYWHERE = "192.0.2.77"
SUITE = Suite.CHACHAPOLY_BLAKE2S


class Joiner(Protocol):
    """
    One connection.

    @ivar frames: kind and body of what came after the handshake.
    @ivar lost: whether the anchor has ended it.
    """

    def __init__(
        self, mesh: ManagedMesh, node: ManagedNode, host: str = ANYWHERE, settle: float = 1.0
    ) -> None:
        self._mesh = mesh
        self.frames: list[tuple[int, bytes]] = []
        self.lost = False
        prologue = hop_prologue(SUITE, mesh.authority.network_id)
        self.session = NoiseSession("XX", SUITE, True, mesh.random.randbytes(32), prologue)
        self._reader = RecordReader(INITIATOR_READS)
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        mesh.network.client(node.address, host).connect(factory)
        mesh.run(settle)

    def connectionMade(self) -> None:
        """Begin the handshake."""
        message = self.session.write_message(encode_genesis_version(1))
        self.transport.write(encode_preamble(SUITE) + frame_record(message))

    def dataReceived(self, data: bytes) -> None:
        """Say in message 3 that there is no certificate; keep what comes after it."""
        for record in self._reader.feed(data):
            if self.session.finished:
                plain = self.session.open(record)
                self.frames += [(kind, plain[start + 3 : end]) for kind, start, end in iter_frames(plain)]
            else:
                self.session.read_message(bytes(record))
                self.transport.write(frame_record(self.session.write_message(b"")))

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        self.lost = True

    @property
    def admitted(self) -> bool:
        """Whether the anchor lets it ask."""
        return not self.lost and self.frames[:1] == [(Kind.RENEWAL, b"")]

    @property
    def refusal(self) -> CloseReason | None:
        """What the anchor said at the end."""
        kind, body = self.frames[-1] if self.frames else (0, b"")
        return Close.decode(body).reason if kind == Kind.CLOSE else None

    def send(self, kind: int, body: bytes) -> None:
        """A frame, whatever it is."""
        self.transport.write(frame_record(self.session.seal(pack_frame(kind, body))))

    def ask(
        self, method: str, target: str, headers: dict[str, str] | None = None, data: bytes = b""
    ) -> tuple[int, bytes] | None:
        """Ask one question. @return: status and body; None where there was no answer with one."""
        before = len(self.frames)
        self.send(Kind.AUTHORITY, encode_question("0" * 32, method, target, headers or {}, data))
        self._mesh.run(1)
        answers = [body for kind, body in self.frames[before:] if kind == Kind.AUTHORITY]
        return decode_answer(json.loads(answers[0])) if answers else None

    def join(self, invite: Invite) -> tuple[int, bytes] | None:
        """Send a join request."""
        data, headers = join_request(self._mesh, invite)
        return self.ask("POST", "/join", headers, data)


def join_request(
    mesh: ManagedMesh, invite: Invite, signer: SigningKey | None = None, **changed: Any
) -> tuple[bytes, dict[str, str]]:
    """
    The body of a join request with keys of its own, and its signature.

    @param signer: signs in place of the key that the request is for.
    @param changed: members of the body.
    """
    node, nonce = SigningKey.from_seed(mesh.random.randbytes(32)), mesh.random.randbytes(16)
    now = int(mesh.wall())
    made = make_join_request(invite, node, NoiseKey.generate().public, invite.network_id, now, nonce)
    data = json.dumps(json.loads(made.encode()) | changed).encode()
    headers = sign_request(
        signer or node,
        "POST",
        "/join",
        data,
        audience=invite.authority,
        created=now,
        nonce=nonce,
        tag=JOIN_TAG,
    )
    return data, headers
