# SPDX-License-Identifier: MIT
"""
What each kind of request costs the authority that a stranger can send: answered, and refused by 429.

One connection asks, one request after another; CPU is the daemon's own.  An address may have as many answers
a second as its limit says, and as many joins beside them.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.harness import Row, progress
from gmesh.authority.limits import BODY_LIMITS, STRANGER_BODY_BYTES
from gmesh.authority.rate_limit import RateLimits
from gmesh.keyfiles import Passphrases, load_key
from gmesh.trust.documents import Certificate, sign_document
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.invite import Invite
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG, sign_request

if TYPE_CHECKING:
    from bench.authority_state import State

__all__ = ["doors"]

GOAL = 5.0  # per cent of a core
ROUNDS = 7  # the least counts: others on the machine only add
ALLOWED = RateLimits().address.per_minute / 60  # a second
Request = Callable[[], bytes]


class Asker:
    """One connection that sends a request when the last was answered; opened anew when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, request: bytes) -> int:
        """@return: the status."""
        for _ in range(2):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            status = self._answer(self._socket)
            if status:
                return status
            self._socket = None
        raise RuntimeError("closed without an answer")

    def _answer(self, connection: socket.socket) -> int:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return 0
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lower = head.lower()
        start = lower.index(b"content-length:") + 15
        left = int(lower[start:].partition(b"\r\n")[0]) - len(body)
        while left > 0:
            left -= len(connection.recv(min(left, 1 << 20)))
        if b"connection: close" in lower:
            connection.close()
            self._socket = None
        return int(head[9:12])


def plain(method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """A request as it stands on the wire."""
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"{method} {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def kinds(state: State) -> dict[str, Request]:
    """Each kind of request by its name; made anew each time, for none is taken twice."""
    owner = load_key(state.operator / "operator.key", Passphrases())

    def signed(
        method: str,
        target: str,
        body: bytes,
        tag: str,
        signer: SigningKey | None = None,
        forged: bool = False,
    ) -> bytes:
        headers = sign_request(
            signer or SigningKey.generate(),
            method,
            target,
            body,
            audience=state.authority.key_id,
            created=int(time.time()),
            nonce=os.urandom(16),
            tag=tag,
        )
        if forged:
            headers["Signature"] = "gmesh=:" + "A" * 86 + "==:"
        return plain(method, target, body, headers)

    def node(target: str, size: int, tag: str = NODE_TAG) -> bytes:
        """Under a key of its own, and as dear to parse as it may be."""
        key = SigningKey.generate()
        head = f'{{"node_key":"{b64url_encode(key.public)}","x":['
        body = head + "1," * ((size - len(head) - 3) // 2) + "1]}"
        return signed("POST", target, body.encode(), tag, key)

    def join() -> bytes:
        """Under an invite that nobody gave out."""
        invite = Invite(
            urls=("http://127.0.0.1:8440",),
            network_id=state.issuer.network_id,
            genesis_version=1,
            genesis_digest=state.genesis.digest,
            authority=state.authority.key_id,
            seed=os.urandom(32),
        )
        key, now = SigningKey.generate(), int(time.time())
        request = make_join_request(
            invite, key, NoiseKey.generate().public, invite.network_id, now, os.urandom(16)
        )
        return signed("POST", "/join", request.encode(), JOIN_TAG, key)

    def renewal() -> bytes:
        """With a certificate that its own key has signed."""
        key, now = SigningKey.generate(), int(time.time())
        noise_key = b64url_encode(NoiseKey.generate().public)
        body = Certificate(
            network_id=state.issuer.network_id,
            serial=now,
            name="pump-1",
            node_key=b64url_encode(key.public),
            noise_key=noise_key,
            roles=("client",),
            not_before=now,
            not_after=now + 86_400,
            issued_at=now,
        )
        value = {"certificate": sign_document(body, [key]).as_dict(), "noise_key": noise_key}
        return signed("POST", "/renew", json.dumps(value).encode(), NODE_TAG, key)

    policy = b'{"text":{"rules":[' + b"1," * (BODY_LIMITS["POST /admin/policies"] // 2 - 20) + b"1]}}"
    as_json = {"Content-Type": "application/json"}
    return {
        "GET /healthz": lambda: plain("GET", "/healthz"),
        "GET /status": lambda: plain("GET", "/status"),
        "GET /policy": lambda: plain("GET", "/policy"),
        "GET /crl": lambda: plain("GET", "/crl"),
        "GET /crl?since=1": lambda: plain("GET", "/crl?since=1"),
        "GET /genesis/1": lambda: plain("GET", "/genesis/1"),
        "GET /openapi.json": lambda: plain("GET", "/openapi.json"),
        "GET /readyz": lambda: plain("GET", "/readyz"),
        "a path that is not there": lambda: plain("GET", "/nowhere"),
        "a method that is not there": lambda: plain("DELETE", "/status"),
        "policy of 256 KiB, unsigned": lambda: plain("POST", "/admin/policies", policy, as_json),
        "policy of 256 KiB, forged": lambda: signed(
            "POST", "/admin/policies", policy, ADMIN_TAG, owner, forged=True
        ),
        "revocation, forged under an operator's key": lambda: signed(
            "POST", "/admin/revocations", b'{"node":"pump-1"}', ADMIN_TAG, owner, forged=True
        ),
        "revocation, under an unknown key": lambda: signed(
            "POST", "/admin/revocations", b'{"node":"pump-1"}', ADMIN_TAG
        ),
        "commands, under an unknown key": lambda: signed("GET", "/commands?since=0", b"", NODE_TAG),
        "renewal, by a certificate of its own making": renewal,
        "renewal of 2 KiB, under its own key": lambda: node("/renew", STRANGER_BODY_BYTES),
        "renewal of 8 KiB, under its own key": lambda: node("/renew", BODY_LIMITS["POST /renew"]),
        "heartbeat of 2 KiB, under its own key": lambda: node("/heartbeat", STRANGER_BODY_BYTES),
        "heartbeat of 32 KiB, under its own key": lambda: node("/heartbeat", BODY_LIMITS["POST /heartbeat"]),
        "join by an unknown invite": join,
        "join of 4 KiB that is none": lambda: node("/join", BODY_LIMITS["POST /join"], JOIN_TAG),
    }


def doors(directory: Path, state: State, quick: bool) -> list[Row]:
    """A row for each kind and each outcome, and what an address can take at its limit."""
    from bench.authority import running

    count = 50 if quick else 200
    rows: list[Row] = []
    shares: dict[str, float] = {}
    failures = str(RateLimits().failures)
    for limits in ({}, {"rate": "1/1"}):
        with running("product", directory, state, failures=failures, **limits) as server:
            asker = Asker(server.port)
            asker.ask(plain("GET", "/healthz"))
            for name, make in kinds(state).items():
                told = f"{name}, at the limit" if limits else name
                progress(told)
                statuses, costs = set(), []
                for _ in range(ROUNDS):
                    requests = [make() for _ in range(count)]
                    server.report()
                    statuses |= {asker.ask(request) for request in requests}
                    costs.append(server.report()["cpu"] / count)
                cpu = min(costs)
                note = "/".join(map(str, sorted(statuses)))
                if not limits:
                    shares[name] = ALLOWED * cpu * 100
                    note += f"; {ALLOWED:g}/s take {shares[name]:.1f} % of a core"
                rows.append(Row(told, cpu_us={"server": cpu * 1e6}, rounds=ROUNDS, note=note))
    join = max(shares.pop(name) for name in list(shares) if name.startswith("join"))
    dearest = max(shares, key=lambda name: shares[name])
    note = f"{shares[dearest] + join:.1f} % of a core; the goal is {GOAL:g} %"
    rows.append(Row(f"an address at both limits: {dearest}; and joins", note=note))
    return rows
