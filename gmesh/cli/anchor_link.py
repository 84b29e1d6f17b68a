# SPDX-License-Identifier: MIT
"""
Joining by an anchor: a Noise session with it, in which it passes on what is asked of the authority.

A host that joins has no certificate, and shows the anchor none; its key for the session is made for it alone.
The anchor shows its own, which is judged by what its network believes before the join request is sent:
until then only documents were fetched that prove themselves.
Tests: C{tests/cli/test_anchor_link.py}.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from gmesh.cli.anchor_dial import Dialled, dial_anchor
from gmesh.cli.http import HttpAnswer, HttpRefused, Unreachable, refusal
from gmesh.cli.limits import (
    ANCHOR_FULL_WAIT,
    ANCHOR_LINK_SECONDS,
    ANCHOR_QUESTIONS,
    AUTHORITY_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_ANSWER,
)
from gmesh.errors import CarrierRefused, ConfigurationError, GmeshError
from gmesh.trust.authority_answers import PROBLEM_TYPE
from gmesh.trust.documents import Certificate, parse_document
from gmesh.trust.invite import Invite
from gmesh.trust.keys import decode_noise_public
from gmesh.trust.relayed_requests import decode_answer, encode_question
from gmesh.trust.restricted_json import parse_json
from gmesh.trust.signed_requests import JSON_TYPE
from gmesh.trust.state import TrustState
from gmesh.trust.transport_address import FORMS, TransportAddress, read_address
from gmesh.wire.frames import Kind, iter_frames, pack_frame
from gmesh.wire.handshake import HandshakePayload, encode_genesis_version
from gmesh.wire.limits import FRAME_HEADER, INITIATOR_READS
from gmesh.wire.messages import Close, CloseReason
from gmesh.wire.noise import NoiseSession
from gmesh.wire.preamble import encode_preamble, hop_prologue
from gmesh.wire.records import RecordReader, frame_record
from gmesh.wire.suites import Suite

__all__ = ["AnchorLink", "anchor_address"]

_KEY = 32
_IDENTIFIER = 16
_CHUNK = 65536


class _HungUp(GmeshError):
    """The other end closed without a word, as one does that knows another suite only."""


def anchor_address(text: str) -> TransportAddress:
    """
    Where an anchor is dialled by a command.

    @raise ConfigurationError: C{bad-address}.
    """
    address = read_address(text, local=True)
    if address is None:
        raise ConfigurationError("bad-address", f"{text!r} is none of {FORMS}")
    return address


class AnchorLink:
    """
    The authority behind an anchor, asked as L{gmesh.cli.http.Endpoint} is.

    @param place: C{HOST:PORT} of the anchor, C{tls://HOST} or C{wss://HOST/PATH}.
    @param wall: Unix seconds.
    @ivar trust: what the anchor's certificate is judged by; nothing but documents is asked for before.
    """

    def __init__(
        self,
        place: str,
        invite: Invite,
        wall: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.where = f"the anchor at {place}"
        self.trust: TrustState | None = None
        self._address = anchor_address(place)
        self._invite = invite
        self._wall = wall
        self._entropy = entropy
        self._socket: Dialled | None = None
        self._until, self._left = 0.0, 0

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = AUTHORITY_TIMEOUT,
        limit: int = MAX_ANSWER,
        counts: Callable[[str, int, str, bytes], bool] = lambda path, status, kind, body: True,
    ) -> HttpAnswer:
        """
        One request and its answer: L{gmesh.cli.http.Endpoint.request}.

        @raise Unreachable: also if it is not an anchor of the network that the invite means.
        """
        with self._explained():
            if self._socket is None or time.monotonic() > self._until or not self._left:
                self._connect()
            if method != "GET":
                self._judge()
            answer = self._ask(method, path, body, dict(headers or {}), time.monotonic() + timeout)
        if answer is None:
            raise Unreachable("unreachable", f"{self.where} does not reach the authority either")
        status, data = answer
        if not counts(path, status, JSON_TYPE if status < 300 else PROBLEM_TYPE, data) or len(data) > limit:
            raise Unreachable("bad-answer", f"{self.where} answered {status}, but not as an authority does")
        if status >= 300:
            refused = refusal(self.where, status, data, None)
            wait = refused.problem.get("retry_after")
            refused.retry_after = max(1, wait) if type(wait) is int else None
            raise refused
        return HttpAnswer(status, data)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever goes wrong on the way ends the session, and is told as of this anchor."""
        try:
            yield
        except (Unreachable, HttpRefused):
            self.close()
            raise
        except CarrierRefused as error:
            self.close()
            raise Unreachable("unreachable", f"{self.where} is not reached: {error.detail}") from error
        except GmeshError as error:
            self.close()
            raise Unreachable("bad-answer", f"{self.where} breaks the protocol: {error.detail}") from error
        except TimeoutError as error:
            self.close()
            raise Unreachable("timeout", f"{self.where} did not answer in time") from error
        except (OSError, UnicodeError) as error:
            self.close()
            why = getattr(error, "strerror", None) or error
            raise Unreachable("unreachable", f"{self.where} is not reached: {why}") from error

    # the handshake

    def _connect(self) -> None:
        for suite in Suite:
            with suppress(_HungUp):
                self._shake_hands(suite)
                return
        self.close()
        raise Unreachable(
            "closed",
            f"{self.where} hangs up: it is not an anchor of this network by which hosts may join"
            " (relay_joins in its configuration)",
        )

    def _shake_hands(self, suite: Suite) -> None:
        end = time.monotonic() + CONNECT_TIMEOUT
        self.close()
        self._socket = dial_anchor(self._address, CONNECT_TIMEOUT)
        self._reader, self._records = RecordReader(INITIATOR_READS), list[memoryview]()
        invite = self._invite
        session = NoiseSession("XX", suite, True, self._entropy(_KEY), hop_prologue(suite, invite.network_id))
        first = session.write_message(encode_genesis_version(invite.genesis_version))
        self._socket.sendall(encode_preamble(suite) + frame_record(first))
        message = self._record(end)
        try:
            payload = session.read_message(message)
        except GmeshError as error:
            raise Unreachable(
                "wrong-network", f"{self.where} is of another network than the invite"
            ) from error
        self._certificate = parse_document(HandshakePayload.decode(payload).certificate, Certificate)
        if decode_noise_public(self._certificate.body.noise_key) != session.remote_static:
            raise Unreachable("posing-anchor", f"{self.where} shows the certificate of another")
        self._socket.sendall(frame_record(session.write_message(b"")))
        self._session = session
        kind, body = self._frame(end)
        if kind == Kind.CLOSE:
            self._refused(Close.decode(body).reason)
        if kind != Kind.RENEWAL:
            raise Unreachable("bad-answer", f"{self.where} lets nobody join")
        self._until, self._left = time.monotonic() + ANCHOR_LINK_SECONDS, ANCHOR_QUESTIONS

    def _refused(self, reason: CloseReason) -> None:
        if reason is CloseReason.FULL:
            busy = f"{self.where} has no place for another host that joins"
            raise HttpRefused("full", busy, 503, {}, ANCHOR_FULL_WAIT)
        raise Unreachable(
            "not-allowed",
            f"{self.where} lets nobody join by it: its operator sets relay_joins = true, or name another",
        )

    def _judge(self) -> None:
        """@raise Unreachable: unless an anchor of this network is at the other end."""
        assert self.trust is not None, "the documents are fetched before anything is asked"
        try:
            self.trust.judge_certificate(self._certificate, self._wall())
        except GmeshError as error:
            raise Unreachable(
                "posing-anchor", f"{self.where} is not a member of this network: {error.detail}"
            ) from error
        if "anchor" not in self._certificate.body.roles:
            raise Unreachable("posing-anchor", f"{self.where} is a member, but not an anchor")

    # records

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str], end: float
    ) -> tuple[int, bytes] | None:
        assert self._socket is not None
        self._left -= 1
        identifier = self._entropy(_IDENTIFIER).hex()
        question = encode_question(identifier, method, path, headers, body)
        self._socket.settimeout(AUTHORITY_TIMEOUT)
        self._socket.sendall(frame_record(self._session.seal(pack_frame(Kind.AUTHORITY, question))))
        kind, answer = self._frame(end)
        if kind != Kind.AUTHORITY:
            raise Unreachable("closed", f"{self.where} hangs up on what is asked")
        value = parse_json(answer, len(answer))
        if value.get("answer") != identifier:
            raise Unreachable("bad-answer", f"{self.where} answers what was not asked")
        return decode_answer(value)

    def _frame(self, end: float) -> tuple[int, bytes]:
        """The one frame of the next record."""
        try:
            record = self._session.open(self._record(end))
        except _HungUp as error:
            raise Unreachable(
                "closed", f"{self.where} closed the connection before it had answered"
            ) from error
        [(kind, start, stop)] = iter_frames(record)[:1]
        return kind, record[start + FRAME_HEADER : stop]

    def _record(self, end: float) -> bytes:
        assert self._socket is not None
        while not self._records:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(_CHUNK)
            except ConnectionResetError:
                data = b""
            if not data:
                raise _HungUp("closed", "the other end hung up")
            self._records += self._reader.feed(data)
        return bytes(self._records.pop(0))
