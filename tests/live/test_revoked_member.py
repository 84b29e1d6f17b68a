# SPDX-License-Identifier: MIT
"""A member that renews in a loop, and a real daemon: it gets little, and is revoked at once and for good."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from authority import state_files
from authority.test_flood_of_certificates import LAST_SERIAL, flooding_statements
from live.authority_rig import DEADLINE, AuthorityProcess, Fleet

from gmesh.authority import limits
from gmesh.trust.encoding import b64url_encode
from gmesh.trust.join import make_join_request
from gmesh.trust.keys import NoiseKey, SigningKey
from gmesh.trust.signed_requests import ADMIN_TAG, JOIN_TAG, NODE_TAG

pytestmark = pytest.mark.live


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A daemon with the limits of the default, started."""
    keys = state_files.Keys()
    genesis = state_files.write_state(tmp_path / "authority", keys, int(time.time()) - 60)
    daemon = AuthorityProcess(tmp_path / "authority")
    daemon.start()
    yield Fleet(daemon, keys, genesis)
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait(DEADLINE)


class Member:
    """A host that joined, and asks."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.node, self.noise = SigningKey.generate(), NoiseKey.generate()
        invite = fleet.invite(name)
        request = make_join_request(
            invite, self.node, self.noise.public, invite.network_id, int(time.time()), os.urandom(16)
        )
        code, answer = self.ask("/join", request.encode(), JOIN_TAG)
        assert code == 201, answer
        self.certificate = answer["certificate"]

    def ask(self, target: str, body: bytes, tag: str = NODE_TAG) -> tuple[int, Any]:
        headers = self.fleet.signed(self.node, "POST", target, body, tag)
        return self.fleet.daemon.ask("POST", target, headers, body)

    def renew(self, noise: NoiseKey | None = None) -> tuple[int, Any]:
        """The newest certificate is kept."""
        key = b64url_encode((noise or self.noise).public)
        value = {"certificate": self.certificate, "noise_key": key}
        code, answer = self.ask("/renew", json.dumps(value).encode())
        if code == 201:
            self.certificate, self.noise = answer["certificate"], noise or self.noise
        return code, answer


def revoke(fleet: Fleet, name: str) -> tuple[int, Any]:
    """By its name, as the administrator."""
    body = json.dumps({"node": name}).encode()
    headers = fleet.signed(fleet.keys.admin, "POST", "/admin/revocations", body, ADMIN_TAG)
    return fleet.daemon.ask("POST", "/admin/revocations", headers, body)


def test_a4_a_member_that_renews_in_a_loop_is_revoked_like_any_other(fleet: Fleet) -> None:
    """With one Noise key it gets what it has, with new ones a few; one entry of the CRL names them all."""
    member, other = Member(fleet, "loop"), Member(fleet, "other")
    first = member.certificate
    for _ in range(20):
        assert member.renew() == (200, {"certificate": first})
    codes = Counter(member.renew(NoiseKey.generate())[0] for _ in range(20))
    assert codes == {201: limits.RENEWALS_AN_HOUR - 1, 429: 20 - limits.RENEWALS_AN_HOUR + 1}
    assert 0 < member.renew(NoiseKey.generate())[1]["retry_after"] <= 3600
    code, answer = revoke(fleet, "loop")
    assert (code, answer["nodes"]) == (201, [member.node.key_id])
    listed = fleet.daemon.ask("GET", "/crl")[1]["signed"]
    newest = member.certificate["signed"]
    ended = max(newest["not_after"], first["signed"]["not_after"])
    assert [entry[0] for entry in listed["revoked_nodes"]] == answer["nodes"]
    assert newest["serial"] < listed["revoked_nodes"][0][1] and ended == listed["revoked_nodes"][0][2]
    code, problem = member.renew()
    assert (code, problem["type"]) == (403, "urn:gmesh:problem:cert-revoked")
    assert other.renew()[0] == 200
    assert revoke(fleet, "other")[0] == 201


def revoke_flooded(fleet: Fleet, count: int) -> tuple[float, list[float]]:
    """
    A member of so many certificates is revoked, while another has the authority decide all the time.

    @return: seconds until nodes could fetch the CRL that names it, and those of each decision meanwhile.
    """
    member, other = Member(fleet, "flood"), Member(fleet, "other")
    serial = member.certificate["signed"]["serial"]
    assert fleet.daemon.end() is not None
    with closing(sqlite3.connect(fleet.daemon.state / "authority.sqlite")) as database, database:
        ((last,),) = database.execute(LAST_SERIAL).fetchall()
        for statement in flooding_statements(last, serial, count - 1):
            database.execute(statement)
    fleet.daemon.options += ("--rate", "100000000", "--key-rate", "100000000")
    fleet.daemon.start()
    took: list[float] = []
    over = threading.Event()

    def decide() -> None:
        while not over.is_set():
            begun = time.monotonic()
            assert other.renew()[0] == 200
            took.append(time.monotonic() - begun)

    beside = threading.Thread(target=decide)
    beside.start()
    begun = time.monotonic()
    code, answer = revoke(fleet, "flood")
    listed = fleet.daemon.ask("GET", "/crl")[1]["signed"]
    cut = time.monotonic() - begun
    refused = member.renew()[0]
    over.set()
    beside.join(DEADLINE)
    assert (code, answer["serials"], answer["nodes"], answer["keys"]) == (201, [], [member.node.key_id], [])
    assert refused == 403
    assert (listed["number"], listed["revoked"], listed["revoked_keys"]) == (answer["crl_number"], [], [])
    ((node_id, below, _, _),) = listed["revoked_nodes"]
    assert node_id == member.node.key_id and below > serial + count - 1
    assert revoke(fleet, "other")[0] == 201
    return cut, took


def test_a4_a_member_of_many_certificates_is_cut_while_others_renew(fleet: Fleet) -> None:
    """One entry names them all; nobody else's decision fails."""
    assert revoke_flooded(fleet, 20_000)[1]


@pytest.mark.soak
def test_a4_a_member_of_a_million_certificates_is_cut_within_a_second(
    fleet: Fleet, record_property: Any
) -> None:
    """From the operator's request to the CRL that nodes fetch; others' decisions go on meanwhile."""
    cut, took = revoke_flooded(fleet, 1_000_000)
    record_property("cut_seconds", cut)
    record_property("longest_wait_seconds", max(took))
    assert cut <= 1.0
    assert max(took) <= 1.0
