# SPDX-License-Identifier: MIT
"""Which certificates a CRL revokes, and each way to it, against a list of facts that is walked through."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trust.network import DAY, NOW, Network

from gmesh.errors import DocumentRefused
from gmesh.trust.documents import Crl, Document, document_from_dict, sign_document
from gmesh.trust.limits import MAX_INTEGER
from gmesh.trust.revocation import apply_delta, make_delta
from gmesh.trust.revoked import Revoked

NETWORK = Network()
NODES = [f"{number:032x}" for number in range(4)]
SERIALS = range(12)


@dataclass(frozen=True)
class Fact:
    """
    Somebody revoked something.

    @ivar kind: C{serial}, C{node} or C{key}.
    @ivar name: the serial or the node_id.
    @ivar below: of a node, the first serial that is not revoked.
    """

    kind: str
    name: Any
    below: int
    end: int

    def revokes(self, serial: int, node_id: str) -> bool:
        """As it is meant."""
        if self.kind == "serial":
            return bool(serial == self.name)
        return bool(node_id == self.name and (self.kind == "key" or serial < self.below))


FACTS = st.builds(
    Fact,
    st.just("serial"),
    st.sampled_from(SERIALS),
    st.just(0),
    st.integers(NOW, NOW + 9),
) | st.builds(
    Fact,
    st.sampled_from(["node", "key"]),
    st.sampled_from(NODES),
    st.sampled_from(SERIALS),
    st.integers(NOW, NOW + 9),
)


def in_force(facts: list[Fact], cut: int) -> list[Fact]:
    """Of facts about one thing the last, if it has not ended."""
    newest = {(fact.kind, fact.name): fact for fact in facts}
    return [fact for fact in newest.values() if fact.end >= cut]


def crl(number: int, facts: list[Fact]) -> Document[Crl]:
    """As an authority publishes them."""
    return NETWORK.crl(
        number,
        [(fact.name, fact.end, 0) for fact in facts if fact.kind == "serial"],
        [(fact.name, fact.end) for fact in facts if fact.kind == "key"],
        issued_at=NOW + number,
        revoked_nodes=[(fact.name, fact.below, fact.end, 0) for fact in facts if fact.kind == "node"],
    )


@given(st.lists(FACTS, max_size=12))
def test_a_certificate_is_revoked_if_a_fact_says_so(facts: list[Fact]) -> None:
    """By its serial, by its node's bound, or by its node's key; and by nothing else."""
    facts = in_force(facts, NOW)
    revoked = Revoked()
    revoked.follow(crl(1, facts).body)
    for node_id in NODES:
        for serial in SERIALS:
            expected = any(fact.revokes(serial, node_id) for fact in facts)
            assert revoked.names(serial, node_id) is expected
    revoked.follow(None)
    assert not any(revoked.names(serial, node_id) for node_id in NODES for serial in SERIALS)


@given(st.lists(st.tuples(st.lists(FACTS, max_size=4), st.integers(NOW, NOW + 9)), min_size=2, max_size=6))
def test_any_chain_of_deltas_ends_in_the_same_bytes(steps: list[tuple[list[Fact], int]]) -> None:
    """By each CRL between, by some, or by none: file, signatures and all."""
    told: list[Fact] = []
    published, cuts, cut = [], [], 0
    for number, (facts, at) in enumerate(steps, 1):
        cut = max(cut, at)
        told = in_force(told + [fact for fact in facts if fact.end >= cut], cut)
        published.append(crl(number, told))
        cuts.append(cut)
    newest = published[-1]
    for step in range(1, len(published)):
        held = published[0]
        for place in [*range(step, len(published) - 1, step), len(published) - 1]:
            target = published[place]
            delta = make_delta(held.body, target, cuts[place])
            held = apply_delta(held, sign_document(delta, [NETWORK.authority]))
            assert (held, held.encode()) == (target, target.encode())
        assert held == newest


LOW, HIGH = NODES[:2]


@pytest.mark.parametrize(
    "nodes",
    [
        [[HIGH, 1, NOW, 0], [LOW, 1, NOW, 0]],
        [[LOW, 1, NOW, 0], [LOW, 1, NOW, 0]],
        [[LOW, 1, NOW, 0], [LOW, 2, NOW, 0]],
        [[LOW, 1, NOW]],
        [[LOW, 1, NOW, 0, 0]],
        [[LOW, -1, NOW, 0]],
        [[LOW, 1, NOW, 256]],
        [[LOW, MAX_INTEGER + 1, NOW, 0]],
        [["pump", 1, NOW, 0]],
        [[7, 1, NOW, 0]],
        ["x"],
        None,
    ],
)
def test_nodes_ascend_one_entry_each(nodes: Any) -> None:
    """Another order, two entries for a node, and entries of another shape are refused."""
    value = copy.deepcopy(crl(1, [Fact("node", LOW, 1, NOW), Fact("node", HIGH, 1, NOW)]).as_dict())
    assert document_from_dict(value, Crl).signed["revoked_nodes"] == [[LOW, 1, NOW, 0], [HIGH, 1, NOW, 0]]
    value["signed"]["revoked_nodes"] = nodes
    with pytest.raises(DocumentRefused):
        document_from_dict(value, Crl)


def test_what_is_remembered_counts_while_no_crl_is_held() -> None:
    """A lost CRL named this serial: older ones of the node are refused too, those of others are not."""
    revoked = Revoked()
    revoked.remember({LOW: 5})
    assert [revoked.names(serial, LOW) for serial in (4, 5, 6)] == [True, True, False]
    assert not revoked.names(5, HIGH)
    revoked.follow(NETWORK.crl(1, revoked_nodes=[(LOW, 5, NOW + DAY, 0)]).body)
    assert [revoked.names(serial, LOW) for serial in (4, 5)] == [True, False]
