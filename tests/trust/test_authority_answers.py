# SPDX-License-Identifier: MIT
"""Which URLs of the authority are asked, and what counts as its answer."""

from __future__ import annotations

from collections import Counter

import pytest
from trust.network import Network

from gmesh.trust.authority_answers import former_urls, is_answer, known_urls, spread_urls

OLD, NEW, OWN = "http://authority.example:8400", "http://new.example", "http://10.0.0.1:8440"
DOCUMENT = b'{"signatures": [], "signed": {}}\n'
PROBLEM = b'{"type":"urn:gmesh:problem:stale","status":401}'


def test_b1_the_newest_genesis_says_where_the_authority_is() -> None:
    """What this host was given comes first, unless a genesis named it and the newest no longer does."""
    network = Network()
    assert known_urls([OLD], network.chain) == (OLD,)
    assert known_urls([OWN, OLD], network.chain) == (OWN, OLD)
    network.next_genesis(authority_urls=(NEW,))
    assert known_urls([OLD], network.chain) == (NEW, OLD)
    assert known_urls([OLD, OWN], network.chain) == (OWN, NEW, OLD)
    assert former_urls(network.chain) == {OLD}
    assert known_urls([OLD, OWN], network.chain[-1:]) == (OLD, OWN, NEW), "nobody here saw it named"


def test_each_node_begins_at_a_url_of_its_own() -> None:
    """A third of the nodes at each of three, always the same; what no genesis names keeps its place."""
    network = Network()
    three = tuple(f"http://{name}.example" for name in "abc")
    network.next_genesis(authority_urls=three)
    known = known_urls([OWN, OLD], network.chain)
    assert known == (OWN, *three, OLD)
    orders = [spread_urls(known, network.chain, f"{node:032x}") for node in range(600)]
    assert all((order[0], order[4], sorted(order[1:4])) == (OWN, OLD, sorted(three)) for order in orders)
    assert orders == [spread_urls(known, network.chain, f"{node:032x}") for node in range(600)]
    for place in (1, 2):
        counts = Counter(order[place] for order in orders)
        assert all(150 < counts[url] < 250 for url in three), counts
    followers = Counter(order[2] for order in orders if order[1] == three[0])
    assert min(followers.values()) > 60, "those of one that is away are divided among the others"
    network.next_genesis(authority_urls=(*three, NEW))
    wider = [spread_urls(known_urls([], network.chain), network.chain, f"{node:032x}") for node in range(600)]
    assert all(after[0] in (before[1], NEW) for before, after in zip(orders, wider, strict=True))


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        ("/status?after=1", 200, "application/json", DOCUMENT),
        ("/genesis/2", 200, "Application/JSON; charset=utf-8", DOCUMENT),
        ("/heartbeat", 200, "application/json", b'{"status":{}}'),
        ("/renew", 200, "application/json", b'{"certificate":{}}'),
        ("/commands?since=4", 200, "application/json", b'{"commands":[],"next":null}'),
        ("/join", 202, "application/json", b"{}"),
        ("/admin/invites/1", 204, "", b""),
        ("/renew", 401, "application/problem+json", PROBLEM),
        ("/status", 503, "application/problem+json", PROBLEM),
    ],
)
def test_what_the_authority_answers(path: str, status: int, kind: str, body: bytes) -> None:
    """Documents, objects and problems count."""
    assert is_answer(path, status, kind, body)


@pytest.mark.parametrize(
    ("path", "status", "kind", "body"),
    [
        ("/status", 200, "text/html", b"<html>Please log in</html>"),
        ("/status", 200, "text/html", DOCUMENT),
        ("/status", 200, "", DOCUMENT),
        ("/status", 200, "application/json", b'{"error": "log in"}'),
        ("/status", 200, "application/json", b""),
        ("/status", 200, "application/json", b'{"signed"'),
        ("/heartbeat", 200, "application/json", b'{"ok": true}'),
        ("/heartbeat", 204, "", b""),
        ("/status", 204, "", b""),
        ("/status", 302, "text/html", b""),
        ("/status", 302, "application/json", DOCUMENT),
        ("/status", 304, "", b""),
        ("/status", 404, "text/html", b"<html>"),
        ("/status", 404, "application/json", b'{"error": "not found"}'),
        ("/status", 404, "application/problem+json", b'{"type": "about:blank"}'),
        ("/status", 502, "text/html", b"<html>Bad Gateway</html>"),
    ],
)
def test_d6_what_others_answer(path: str, status: int, kind: str, body: bytes) -> None:
    """Captive portals, parked hosts and proxies that reach nobody."""
    assert not is_answer(path, status, kind, body)
