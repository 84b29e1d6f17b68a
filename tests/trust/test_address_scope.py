# SPDX-License-Identifier: MIT
"""How near an address is decides who may lead there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmesh.trust.address_scope import METADATA, Scope, ShunnedHosts, parse_scope, scope_of


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        *((host, Scope.PUBLIC) for host in ("192.88.99.2", "8.8.8.8", "2606:4700::1111", "a.example")),
        *(
            (host, Scope.PRIVATE)
            for host in ("10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1")
        ),
        *(
            (host, Scope.ANY)
            for host in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1")
        ),
        *((host, Scope.ANY) for host in ("169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:127.0.0.1")),
        *((host, Scope.ANY) for host in ("localhost", "a.localhost.", "LOCALHOST", "255.255.255.255")),
        *((host, Scope.ANY) for host in sorted(METADATA)),
        ("::ffff:10.0.0.1", Scope.PRIVATE),
    ],
)
def test_how_near(host: str, scope: Scope) -> None:
    """Public, of a site, or of this host and its link; an IPv4 address within IPv6 is what it is."""
    assert scope_of(host) is scope


@given(st.ip_addresses(v=4).map(str), st.sampled_from(Scope))
def test_an_address_of_a_name_is_asked_when_it_is_known(host: str, bound: Scope) -> None:
    """A name that leads nearer than it may has no such address; nor those that are shunned by number."""
    assert (host in ShunnedHosts([], bound)) == (scope_of(host) > bound)
    assert host in ShunnedHosts([host], bound) and ShunnedHosts([], bound)


def test_words() -> None:
    """One of three, and what is none is told so."""
    assert [parse_scope(word) for word in ("public", "private", "any")] == list(Scope)
    with pytest.raises(ValueError, match="'all' is none of public, private, any"):
        parse_scope("all")
