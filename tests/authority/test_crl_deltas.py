# SPDX-License-Identifier: MIT
"""Who asks for deltas from every number there is costs the authority a few signatures a CRL, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from authority.network import Network
from authority.revoked_nodes import list_nodes
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from gmesh.authority import limits
from gmesh.authority.crl_deltas import CrlDeltas
from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.errors import StoreError
from gmesh.trust.documents import Crl, Document, sign_document
from gmesh.trust.revocation import make_crl, make_delta

NETWORK_ID = "0" * 32


@pytest.fixture
def made(network: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often a delta was made, by the number it begins at."""
    counted: Counter[int] = Counter()
    make = network.authority.issuer.crl_delta

    def count(reader: Any, crl: Any, since: int) -> Any:
        counted[since] += 1
        return make(reader, crl, since)

    monkeypatch.setattr(network.authority.issuer, "crl_delta", count)
    yield counted


def kinds(network: Network, numbers: range) -> list[str]:
    """What is answered to those who hold these."""
    return [network.ask("GET", f"/crl?since={number}").json["signed"]["type"] for number in numbers]


def grown(network: Network, entries: int, crls: int) -> int:
    """A CRL of so many entries, the last of them named one by one by so many CRLs. @return: its number."""
    list_nodes(network, entries)
    for number in range(crls):
        network.joined(f"pump-{number}")
        assert network.admin("POST", "/admin/revocations", {"node": f"pump-{number}"}).status == 201
    newest: int = network.ask("GET", "/crl").json["signed"]["number"]
    return newest


def test_a15_each_delta_is_made_once(network: Network, made: Counter[int]) -> None:
    """From every number up to this CRL's, again and again: the last sixteen, once each."""
    newest = grown(network, 100, limits.DELTAS_KEPT + 4)
    lately = range(newest - limits.DELTAS_KEPT, newest)
    for _ in range(3):
        answered = kinds(network, range(newest + 3))
        assert answered == ["crl-delta" if number in lately else "crl" for number in range(newest + 3)]
        assert made == Counter(lately)


def test_a15_a_delta_that_saves_less_than_half_is_not_made(network: Network, made: Counter[int]) -> None:
    """The first that is too long is the last that is tried: from before that it would be longer still."""
    newest = grown(network, 7, 14)
    assert kinds(network, range(newest + 1)) == kinds(network, range(newest + 1))
    saved = [
        number
        for number in range(newest)
        if made[number] and kinds(network, range(number, number + 1)) == ["crl-delta"]
    ]
    sizes = [len(network.ask("GET", f"/crl?since={number}").body) for number in saved]
    whole = len(network.ask("GET", "/crl").body)
    assert saved and saved == list(range(saved[0], newest))
    assert all(2 * size <= whole for size in sizes)
    assert saved[0] > newest - limits.DELTAS_KEPT + 1
    before = made.copy()
    kinds(network, range(newest + 1))
    assert made == before


def test_a15_a_new_crl_begins_anew(network: Network, made: Counter[int]) -> None:
    """Deltas lead to the CRL in force: those to the one before are made no more."""
    newest = grown(network, 60, 2)
    assert kinds(network, range(newest - 1, newest)) == ["crl-delta"]
    network.joined("pump-9")
    assert network.admin("POST", "/admin/revocations", {"node": "pump-9"}).status == 201
    assert kinds(network, range(newest - 1, newest + 1)) == ["crl-delta"] * 2
    assert made[newest - 1] == 2


def crl(number: int, count: int) -> Document[Crl]:
    """An unsigned one of so many nodes."""
    rows = [(f"{each:032x}", 1, 5000, 0) for each in range(count)]
    return sign_document(make_crl(NETWORK_ID, number, 1000, 2000, [], rows, []), [])


class Making:
    """What makes deltas, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Deferred[Any]]] = []
        self.deltas = CrlDeltas(self._make)

    def _make(self, document: Document[Crl], since: int) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.asked.append((since, done))
        return done

    def ask(self, since: int) -> tuple[Deferred[Any], list[Any]]:
        """Somebody asks. @return: with what they get."""
        got: list[Any] = []
        asked = Deferred.fromCoroutine(self.deltas.delta(since))
        asked.addBoth(got.append)
        return asked, got


def nothing_new(new: Document[Crl], since: int) -> Any:
    """A delta without entries."""
    signed = new.with_signature("0" * 32, bytes(64))
    old = make_crl(NETWORK_ID, since, 900, 2000, [], new.body.revoked_nodes, [])
    return sign_document(make_delta(old, signed, 0), [])


def test_a15_who_asks_meanwhile_gets_the_same() -> None:
    """One is made for all who ask while it is; who hangs up neither stops nor repeats it."""
    making, newest = Making(), crl(9, 50)
    making.deltas.follow(newest)
    (first, gone), (_, second), (_, third) = (making.ask(7) for _ in range(3))
    first.cancel()
    assert len(making.asked) == 1 and isinstance(gone[0], Failure)
    delta = nothing_new(newest, 7)
    making.asked[0][1].callback(delta)
    assert second == third == [(delta.encode(), delta.digest)]
    assert making.ask(7)[1] == second and len(making.asked) == 1


def test_a15_what_was_made_for_an_older_crl_is_dropped() -> None:
    """Who waited for it gets the whole one; the answer that comes late is kept for nobody."""
    making = Making()
    making.deltas.follow(crl(9, 50))
    waiting = making.ask(7)[1]
    making.deltas.follow(crl(10, 50))
    assert waiting == [None]
    again = making.ask(7)[1]
    making.asked[0][1].callback(nothing_new(crl(9, 50), 7))
    assert again == [] and len(making.asked) == 2
    making.asked[1][1].callback(None)
    assert again == [None]


def test_a15_a_failure_costs_one_answer() -> None:
    """Whoever waited gets the whole CRL, and the next to ask has it tried again."""
    making, newest = Making(), crl(9, 50)
    making.deltas.follow(newest)
    waiting = making.ask(8)[1]
    making.asked[0][1].errback(StoreError("unavailable", "the disk is gone"))
    assert waiting == [None]
    again = making.ask(8)[1]
    making.asked[1][1].callback(nothing_new(newest, 8))
    assert again and again != [None]


@pytest.mark.parametrize("epoch", [0, 3])
def test_a15_no_delta_leads_out_of_another_epoch(epoch: int) -> None:
    """Nor from number 0, which no CRL has: an epoch begins at 1."""
    making, first = Making(), epoch * SERIALS_PER_EPOCH
    making.deltas.follow(crl(first + 2, 50))
    for since in (0, 1, first - 1, first, first + 1, first + 2, first + 3):
        making.ask(since)
    assert {since for since, _ in making.asked} == {first + 1}
