# SPDX-License-Identifier: MIT
"""Who waits for news: members whatever strangers do, one poll each, answered before all others."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from gmesh.authority import limits
from gmesh.authority.long_polls import LongPolls
from gmesh.authority.proxies import TrustedProxies, parse_proxy
from gmesh.authority.rate_limit import RateLimits
from gmesh.errors import RequestRefused
from gmesh.trust.documents import Status, parse_document
from gmesh.trust.signed_requests import NODE_TAG


def test_a22_a_revocation_reaches_an_anchor_however_many_strangers_poll(network: Any) -> None:
    """17 addresses with 60 polls each; the anchor's own is taken, and answered first, within the second."""
    anchor = network.joined("hall", "anchor")
    network.joined("pump-1")
    network.clock.advance(5)
    network.server.proxies = TrustedProxies([parse_proxy("127.0.0.1")])
    held = parse_document(network.ask("GET", "/status").body, Status)
    target = f"/status?after={held.digest}"
    answered: list[str] = []

    def poll(headers: dict[str, str], who: str) -> None:
        network.begin("GET", target, headers).addCallback(
            lambda answer: answered.append(who if answer.status == 200 else "refused")
        )

    for number in range(17 * 60):
        poll({"X-Forwarded-For": f"198.51.100.{number % 17}"}, "stranger")
    poll(network.signed(anchor.node, "GET", target, tag=NODE_TAG), "anchor")
    network.treq.flush()
    waiting = len(network.authority.publisher.polls)
    assert answered == ["refused"] * (17 * 60 + 1 - waiting)
    answered.clear()
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    network.clock.advance(limits.STATUS_SPACING_SECONDS)
    network.treq.flush()
    assert answered == ["anchor"] + ["stranger"] * (waiting - 1)


def test_a22_a_signed_fetch_is_served_where_strangers_have_used_up_the_address(network: Any) -> None:
    """What the news names can be fetched too; a bad signature is a stranger's request."""
    anchor = network.joined("hall", "anchor")
    for _ in range(RateLimits().address.burst + 1):
        refused = network.ask("GET", "/nowhere")
    assert refused.status == 429
    for target in ("/status", "/crl", "/policy", "/genesis", "/genesis/1"):
        assert network.ask("GET", target).status == 429
        headers = network.signed(anchor.node, "GET", target, tag=NODE_TAG)
        assert network.ask("GET", target, headers).status == 200
        assert network.ask("GET", target, {**headers, "Signature": "gmesh=:x:"}).status == 429


def refused(ask: Any, *names: str) -> int:
    """How many of these polls are refused."""
    count = 0
    for name in names:
        try:
            ask(name)
        except RequestRefused as error:
            assert error.reason == "unavailable"
            count += 1
    return count


def test_strangers_have_a_few_polls_an_address_and_some_altogether() -> None:
    """Beyond them they are told to ask without waiting; a poll that ends makes room."""
    clock = Clock()
    polls = LongPolls(clock)
    many = limits.STRANGER_POLLS_AN_ADDRESS
    assert refused(polls.of_stranger, *["a"] * (many + 1)) == 1
    first = polls.of_stranger("b")
    left = limits.STRANGER_POLLS - many - 1
    assert refused(polls.of_stranger, *map(str, range(left + 3))) == 3
    first.addErrback(lambda failure: None)
    first.cancel()
    assert refused(polls.of_stranger, "c", "d") == 1
    assert refused(polls.of_member, "anchor") == 0
    polls.stop()
    assert len(polls) == 0 and not clock.getDelayedCalls()


def test_a_member_waits_once_and_members_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later poll of the same key ends the earlier one; one key cannot take the room of others."""
    monkeypatch.setattr(limits, "LONG_POLLS", 2)
    polls = LongPolls(Clock())
    earlier = polls.of_member("a")
    ended: list[str] = []
    earlier.addCallback(lambda _: ended.append("earlier"))
    assert refused(polls.of_member, "a", "a", "b") == 0
    assert ended == ["earlier"] and len(polls) == 2
    assert refused(polls.of_member, "c") == 1
    polls.stop()


def test_news_while_strangers_are_still_being_answered() -> None:
    """Each poll is answered once, those that came meanwhile too, and other work is done in between."""
    clock = Clock()
    polls = LongPolls(clock)
    answered: list[Any] = []
    share = limits.STRANGERS_A_TURN

    def heard(number: int) -> None:
        answered.append(number)
        if number == 0:
            clock.callLater(0, answered.append, "other work")
            wait(2 * share)
            polls.wake()

    def wait(number: int) -> None:
        polls.of_stranger(str(number)).addCallback(lambda _: heard(number))

    for number in range(2 * share):
        wait(number)
    polls.wake()
    assert answered == []
    clock.advance(0)
    assert answered[share] == "other work"
    answered.remove("other work")
    assert sorted(answered) == list(range(2 * share + 1))
    assert len(polls) == 0 and not clock.getDelayedCalls()


def test_a_poll_without_news_ends_by_itself() -> None:
    """After as long as the manual says."""
    clock = Clock()
    polls = LongPolls(clock)
    ended: list[None] = []
    for poll in (polls.of_member("a"), polls.of_stranger("b")):
        poll.addCallback(ended.append)
    clock.advance(limits.LONG_POLL_SECONDS - 0.1)
    assert ended == []
    clock.advance(0.1)
    assert ended == [None, None] and len(polls) == 0


def test_an_authority_that_drains_is_unready_and_lets_nobody_wait(network: Any) -> None:
    """Long polls are answered at once, with the status in force; joins and heartbeats go on."""
    member, host = network.joined("pump-1"), network.invite("pump-2")
    held = parse_document(network.ask("GET", "/status").body, Status)
    target = f"/status?after={held.digest}"
    answered: list[Any] = []
    network.begin("GET", target, network.signed(member.node, "GET", target, tag=NODE_TAG)).addCallback(
        answered.append
    )
    network.begin("GET", target).addCallback(answered.append)
    network.treq.flush()
    assert not answered
    network.authority.drain()
    network.treq.flush()
    assert [answer.status for answer in answered] == [200, 200]
    assert network.ask("GET", target).status == 200
    assert network.ask("GET", target, network.signed(member.node, "GET", target, tag=NODE_TAG)).status == 200
    assert (network.ask("GET", "/readyz").slug, network.ask("GET", "/healthz").status) == ("unavailable", 200)
    assert network.join(host).status == 201 and network.heartbeat(member).status == 200
