# SPDX-License-Identifier: MIT
"""gmesh join by an anchor: whom it talks to, what it sends before it knows, and what it believes."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gmesh.cli.anchor_link import AnchorLink, anchor_address
from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.http import HttpRefused, Unreachable
from gmesh.cli.join import enrol, join
from gmesh.cli.patience import Patience
from gmesh.errors import ConfigurationError, DocumentRefused, GmeshError
from gmesh.mesh.limits import JOIN_QUESTIONS
from gmesh.node.identity_store import IdentityStore
from gmesh.testing.issuer import Enrolled, Issuer
from gmesh.trust.documents import Certificate, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import parse_join_request, verify_join_request
from gmesh.trust.keys import NoiseKey
from gmesh.trust.relayed_requests import encode_answer
from gmesh.wire.frames import Kind, iter_frames, pack_frame
from gmesh.wire.handshake import HandshakePayload
from gmesh.wire.limits import RESPONDER_READS
from gmesh.wire.messages import Close, CloseReason
from gmesh.wire.noise import NoiseSession
from gmesh.wire.preamble import PREAMBLE_SIZE, hop_prologue
from gmesh.wire.records import RecordReader, frame_record
from gmesh.wire.suites import Suite

ALLOWED = (Suite.AESGCM_SHA256,)
Answer = tuple[int, bytes] | None


@dataclass
class Anchor:
    """
    The end that a host dials, one connection after the other, in a thread of its own.

    @ivar shown: whose certificate it shows; C{noise_key} is what it proves.
    @ivar payloads: what dialled sent in message 3.
    @ivar asked: method, target and body of each question.
    @ivar answer: what it brings back.
    @ivar first: the frame that follows the handshake.
    @ivar chunk: bytes that it writes at a time, and C{pause} between them.
    """

    issuer: Issuer
    shown: Enrolled
    noise_key: NoiseKey
    answer: Callable[[str, str, bytes], Answer]
    network: str = ""
    first: bytes = pack_frame(Kind.RENEWAL)
    chunk: int = 1 << 16
    pause: float = 0.0
    payloads: list[bytes] = field(default_factory=list)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._done = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._done = True
        socket.create_connection(self._server.getsockname()).close()
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            connection = self._server.accept()[0]
            with connection:
                if self._done:
                    return
                connection.settimeout(20)
                try:
                    self._talk(connection)
                except (GmeshError, OSError, EOFError):
                    continue

    def _write(self, connection: socket.socket, record: bytes) -> None:
        for at in range(0, len(record), self.chunk):
            connection.sendall(record[at : at + self.chunk])
            if self.pause:
                time.sleep(self.pause)

    def _talk(self, connection: socket.socket) -> None:
        suite = Suite(connection.recv(PREAMBLE_SIZE, socket.MSG_WAITALL)[6])
        if suite not in ALLOWED:
            return
        prologue = hop_prologue(suite, self.network or self.issuer.network_id)
        session = NoiseSession("XX", suite, False, self.noise_key.private, prologue)
        reader, records = RecordReader(RESPONDER_READS), list[memoryview]()

        def record() -> bytes:
            while not records:
                data = connection.recv(1 << 16)
                if not data:
                    raise EOFError
                records.extend(reader.feed(data))
            return bytes(records.pop(0))

        session.read_message(record())
        shown = HandshakePayload(1, self.shown.certificate.encode()).encode()
        connection.sendall(frame_record(session.write_message(shown)))
        self.payloads.append(session.read_message(record()))
        connection.sendall(frame_record(session.seal(self.first)))
        while True:
            plain = session.open(record())
            [(kind, start, end)] = iter_frames(plain)
            assert kind == Kind.AUTHORITY
            value = json.loads(plain[start + 3 : end])
            question = (value["method"], value["target"], base64.b64decode(value["body"]))
            self.asked.append(question)
            answer = encode_answer(value["ask"], self.answer(*question))
            self._write(connection, frame_record(session.seal(pack_frame(Kind.AUTHORITY, answer))))


class World:
    """A network, an invite into it, and an anchor of it that reaches the authority."""

    def __init__(self, directory: Path) -> None:
        self.issuer = Issuer(time.time, Random(5), [], ["http://127.0.0.1:1"])
        self.state = directory / "state"
        self.state.mkdir()
        self.node = self.issuer.enrol("a", "anchor")
        self.invite = Invite(
            urls=("http://127.0.0.1:1",),
            network_id=self.issuer.network_id,
            genesis_version=1,
            genesis_digest=self.issuer.genesis.digest,
            authority=self.issuer.authority.key_id,
            seed=b"\1" * 32,
        )
        self.anchor = Anchor(self.issuer, self.node, self.node.noise_key, self.authority)

    def authority(self, method: str, target: str, data: bytes) -> Answer:
        """What the authority answers."""
        if (method, target) == ("POST", "/join"):
            request = parse_join_request(data)
            verify_join_request(request)
            return 201, self.admit(request.node_key, request.noise_key)
        name = target.split("/")[1]
        return 200, getattr(self.issuer, name).encode()

    def admit(self, node_key: str, noise_key: str) -> bytes:
        """A certificate for these keys."""
        now = int(time.time())
        body = Certificate(
            network_id=self.issuer.network_id,
            serial=77,
            name="pump",
            node_key=node_key,
            noise_key=noise_key,
            roles=("client",),
            not_before=now,
            not_after=now + 3600,
            issued_at=now,
        )
        return json.dumps({"certificate": sign_document(body, [self.issuer.authority]).as_dict()}).encode()

    def join(self, patience: Patience | None = None) -> Any:
        """As the command does."""
        link = AnchorLink(self.anchor.place, self.invite)
        try:
            given = {} if patience is None else {"patience": patience}
            return enrol(self.invite, self.state, RemoteAuthority((), anchors=[link], **given))
        finally:
            link.close()

    def joins(self) -> int:
        """How many join requests the anchor has seen."""
        return [target for _, target, _ in self.anchor.asked].count("/join")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A network with an anchor that helps."""
    made = World(tmp_path)
    yield made
    made.anchor.close()


def test_d5_a_host_enrols_by_an_anchor_alone(world: World) -> None:
    """With a suite that the network allows; it shows no certificate, and the secret is not sent."""
    certificate = world.join()
    assert certificate.body.name == "pump"
    assert world.anchor.payloads == [b""]
    assert [target for _, target, _ in world.anchor.asked] == [
        "/genesis",
        "/status",
        "/policy",
        "/crl",
        "/join",
    ]
    seed = world.invite.seed
    assert not [
        body for *_, body in world.anchor.asked if seed in body or b64url_encode(seed).encode() in body
    ]
    assert (world.state / "crl.json").read_bytes() == world.issuer.crl.encode()


def other_network(world: World) -> None:
    """An anchor of another network, which takes the handshake of this one."""
    other = Issuer(time.time, Random(6), [], ["http://127.0.0.1:1"])
    world.anchor.shown = other.enrol("a", "anchor")
    world.anchor.noise_key = world.anchor.shown.noise_key


def somebody_elses(world: World) -> None:
    """The certificate of an anchor whose key it does not have."""
    world.anchor.noise_key = NoiseKey.generate()


def revoked(world: World) -> None:
    """An anchor that the CRL names."""
    world.issuer.revoke(world.node)
    world.issuer.status = world.issuer._make_status()


def no_anchor(world: World) -> None:
    """A member that is only a client."""
    world.anchor.shown = world.issuer.enrol("c", "client")
    world.anchor.noise_key = world.anchor.shown.noise_key


@pytest.mark.parametrize("pose", [other_network, somebody_elses, revoked, no_anchor])
def test_d5_no_join_request_is_sent_to_who_is_not_an_anchor(
    world: World, pose: Callable[[World], None]
) -> None:
    """Whoever poses gets questions for public documents at most, and the host keeps its invite."""
    pose(world)
    with pytest.raises(Unreachable, match=r"certificate of another|not a member|not an anchor"):
        world.join()
    assert world.joins() == 0
    assert not (world.state / "certificate.json").exists()


def test_d5_an_anchor_of_another_network_is_named(world: World) -> None:
    """The handshake itself is of the network: nothing is asked."""
    world.anchor.network = "0" * 32
    with pytest.raises(Unreachable, match="of another network than the invite"):
        world.join()
    assert world.anchor.asked == []


@pytest.mark.parametrize("part", ["genesis", "status", "policy", "crl"])
def test_d5_documents_that_an_anchor_alters_are_not_believed(world: World, part: str) -> None:
    """A byte changed, or those of a network of its own: nothing is sent, nothing kept."""
    other = Issuer(time.time, Random(6), [], ["http://127.0.0.1:1"])

    def altered(method: str, target: str, data: bytes) -> Answer:
        if target == f"/{part}":
            return 200, getattr(other, part).encode()
        return world.authority(method, target, data)

    world.anchor.answer = altered
    with pytest.raises(DocumentRefused):
        world.join()
    assert world.joins() == 0 and not list(world.state.iterdir())


def test_d5_an_anchor_cannot_put_in_a_certificate_of_its_own(world: World) -> None:
    """One for other keys, or that the authority has not signed, is not taken."""
    request: dict[str, str] = {}

    def altered(method: str, target: str, data: bytes) -> Answer:
        if method == "GET":
            return world.authority(method, target, data)
        request.update(json.loads(data))
        return 200, world.admit(request["node_key"], b64url_encode(NoiseKey.generate().public))

    world.anchor.answer = altered
    with pytest.raises(DocumentRefused, match="other keys than ours"):
        world.join()

    def forged(method: str, target: str, data: bytes) -> Answer:
        if method == "GET":
            return world.authority(method, target, data)
        world.issuer.authority, kept = world.issuer.new_key(), world.issuer.authority
        try:
            return 200, world.admit(request["node_key"], request["noise_key"])
        finally:
            world.issuer.authority = kept

    world.anchor.answer = forged
    with pytest.raises(GmeshError):
        world.join()
    assert not (world.state / "certificate.json").exists()


def test_d5_an_anchor_that_drips_is_given_up(world: World) -> None:
    """The time is for the whole answer, however many bytes keep coming."""
    world.anchor.chunk, world.anchor.pause = 1, 0.05
    link = AnchorLink(world.anchor.place, world.invite)
    with pytest.raises(Unreachable, match="did not answer in time"):
        link.request("GET", "/genesis", timeout=0.4)
    link.close()


def test_d5_an_anchor_by_which_nobody_joins_says_so(world: World) -> None:
    """What its operator has to set is named; a full one is asked again when it has said so."""
    world.anchor.first = pack_frame(Kind.CLOSE, Close(CloseReason.UNSPECIFIED).encode())
    with pytest.raises(Unreachable, match="relay_joins = true"):
        world.join()
    world.anchor.first = pack_frame(Kind.CLOSE, Close(CloseReason.FULL).encode())
    with pytest.raises(HttpRefused, match="no place") as refused:
        world.join()
    assert refused.value.retry_after
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        world.anchor.first = pack_frame(Kind.RENEWAL)

    assert world.join(Patience(60, sleep, say=lambda line: None)).body.name == "pump"
    assert len(slept) == 1


def test_d5_a_wait_that_the_authority_asks_for(world: World) -> None:
    """429 and 202 come through as over HTTP."""
    problem = {"type": "urn:gmesh:problem:rate-limited", "detail": "too many requests", "retry_after": 7}
    answers: list[Answer] = [(429, json.dumps(problem).encode()), (202, b'{"state": "pending"}')]

    def busy(method: str, target: str, data: bytes) -> Answer:
        return world.authority(method, target, data) if method == "GET" else answers.pop(0)

    world.anchor.answer = busy
    slept: list[float] = []
    with pytest.raises(HttpRefused, match="an operator has to approve"):
        world.join(Patience(60, slept.append, say=lambda line: None))
    assert 7 <= slept[0] <= 11 and world.joins() == 2


def test_d5_a_crl_too_long_for_an_anchor_is_left_to_the_daemon(world: World) -> None:
    """The host enrols without it; its neighbours have it in pieces."""
    problem = json.dumps({"type": "urn:gmesh:problem:too-large", "detail": "more"}).encode()

    def short(method: str, target: str, data: bytes) -> Answer:
        return (413, problem) if target == "/crl" else world.authority(method, target, data)

    world.anchor.answer = short
    assert world.join().body.name == "pump"
    assert not (world.state / "crl.json").exists()
    assert IdentityStore(world.state).load().certificate.body.name == "pump"


def test_d5_a_long_chain_takes_more_than_one_connection(world: World) -> None:
    """An anchor takes so many questions in each; the host dials again before it asks one too many."""
    link = AnchorLink(world.anchor.place, world.invite)
    for _ in range(JOIN_QUESTIONS):
        link.request("GET", "/genesis")
    assert len(world.anchor.payloads) == 1
    link.request("GET", "/genesis")
    link.close()
    assert len(world.anchor.payloads) == 2


def test_d5_where_neither_reaches_the_authority(world: World) -> None:
    """Both ways are named, the URLs of the invite and the anchor that stands behind them."""
    world.anchor.answer = lambda method, target, data: None
    link = AnchorLink(world.anchor.place, world.invite)
    authority = RemoteAuthority(("http://127.0.0.1:1",), anchors=[link])
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1.*does not reach the authority either"):
        enrol(world.invite, world.state, authority)
    world.anchor.answer = world.authority
    assert enrol(world.invite, world.state, authority).body.name == "pump"
    link.close()


def test_d5_what_the_command_is_told_and_says(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The anchor named is asked alone; one that the genesis does not list, the daemon has to be told of."""
    text = replace(world.invite, anchors=("quic://a.example/", world.anchor.place)).encode()
    join.main([text, "--state", str(world.state)], standalone_mode=False)
    assert "Enrolled as pump" in capsys.readouterr().out
    other = world.state.parent / "other"
    given = ["--anchor", world.anchor.place, "--state", str(other)]
    join.main([world.invite.encode(), *given], standalone_mode=False)
    assert f"add --peer {world.anchor.place}" in capsys.readouterr().out
    assert json.loads((other / "authority.json").read_bytes()) == {"urls": list(world.invite.urls)}


@pytest.mark.parametrize("text", ["quic://a.example/x", "a.example", "unix:/tmp/x", "http://a:1", "[::1%]:1"])
def test_d5_what_is_no_address_of_an_anchor(text: str) -> None:
    """Refused before anything is dialled."""
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        anchor_address(text)
