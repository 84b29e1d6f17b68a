# SPDX-License-Identifier: MIT
"""How long a refusal takes tells nothing."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import gmesh
from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.trust.keys import SigningKey
from gmesh.trust.signed_requests import JOIN_TAG


@pytest.fixture
def rates() -> RateLimits:
    """No bucket ends the measuring."""
    many = RequestRate(10**8, 1e8)
    return RateLimits(many, many, many)


def refused_joins(network: Any) -> dict[str, Callable[[], tuple[dict[str, str], bytes]]]:
    """A join request for each thing that can be wrong with an invite."""
    used, revoked = network.invite("used"), network.invite("revoked")
    assert network.join(used).status == 201
    revoked_id = SigningKey.from_seed(revoked.invite.seed).key_id
    assert network.admin("DELETE", f"/admin/invites/{revoked_id}").status == 204
    expired = network.invite("expired", ttl=1)
    network.clock.advance(5)
    open_one = network.invite("open")
    unknown = network.member(network.keys.signing())
    other = network.member(SigningKey.from_seed(used.invite.seed))

    def badly_signed() -> tuple[dict[str, str], bytes]:
        value = json.loads(network.join_request(open_one)[1])
        signature = value["invite_signature"]
        value["invite_signature"] = ("A" if signature[0] != "A" else "B") + signature[1:]
        body = json.dumps(value).encode()
        return network.signed(open_one.node, "POST", "/join", body, JOIN_TAG), body

    members = {"unknown": unknown, "used": other, "revoked": revoked, "expired": expired}
    made: dict[str, Any] = {
        kind: lambda member=member: network.join_request(member) for kind, member in members.items()
    }
    return {**made, "badly signed": badly_signed}


def medians(network: Any, rounds: int) -> dict[str, float]:
    """Median CPU time of each refusal, taken in turns, so that other load falls on all alike."""
    kinds = refused_joins(network)
    taken: dict[str, list[int]] = {kind: [] for kind in kinds}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for kind, make in kinds.items():
                headers, body = make()
                began = time.process_time_ns()
                answer = network.ask("POST", "/join", headers, body)
                taken[kind].append(time.process_time_ns() - began)
                assert answer.status == 403
    finally:
        gc.enable()
    return {kind: statistics.median(times) for kind, times in taken.items()}


def calls(network: Any, headers: dict[str, str], body: bytes) -> Counter[str]:
    """What one refusal calls, by name: the work it is, on any machine."""
    made: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            made[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            made[argument.__name__] += 1

    gc.collect()
    gc.disable()  # what is called for garbage of before is not its work
    sys.setprofile(note)
    try:
        answer = network.ask("POST", "/join", headers, body)
    finally:
        sys.setprofile(None)
        gc.enable()
    assert answer.status == 403
    return made


def test_refusals_are_as_much_work(network: Any) -> None:
    """Whatever is wrong with an invite, the refusal calls as much within a tenth, and verifies as much."""
    kinds = refused_joins(network)
    for make in kinds.values():
        calls(network, *make())  # what the first time alone is made
    found = {kind: calls(network, *make()) for kind, make in kinds.items()}
    totals = {kind: made.total() for kind, made in found.items()}
    assert max(totals.values()) < 1.1 * min(totals.values()), totals
    verified = {
        kind: sum(times for name, times in made.items() if name.rpartition(".")[2].startswith("verify"))
        for kind, made in found.items()
    }
    assert len(set(verified.values())) == 1 and min(verified.values()) > 0, verified


@pytest.mark.soak
def test_refusals_take_as_long_within_a_tenth(network: Any) -> None:
    """n = 2,000 of each."""
    found = medians(network, 2000)
    assert max(found.values()) < 1.1 * min(found.values()), found


def test_where_a_secret_could_be_guessed_byte_by_byte_nothing_is_compared(network: Any) -> None:
    """Signatures are verified, digests compared in constant time: first or last byte wrong is the same."""
    body = json.dumps({"node": "pump-1"}).encode()
    for name in ("Signature", "Content-Digest"):
        answers = []
        for place in (12, -8):
            headers = network.signed(network.keys.admin, "POST", "/admin/revocations", body)
            value = headers[name]
            swapped = "A" if value[place] != "A" else "B"
            headers[name] = value[:place] + swapped + value[place:][1:]
            answers.append(network.ask("POST", "/admin/revocations", headers, body))
        said = {json.dumps({**answer.json, "request_id": ""}) for answer in answers}
        assert len(said) == 1 and answers[0].slug == "bad-signature"
    source = (Path(gmesh.__path__[0]) / "trust/signed_requests.py").read_text()
    assert "compare_digest(" in source and "== digest" not in source and "!= digest" not in source
