# SPDX-License-Identifier: MIT
"""L{gmesh.addresses}: what a program sees of a far node."""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from zope.interface.verify import verifyObject

from gmesh.addresses import MeshAddress

PUMP = MeshAddress("pump-07", "ab" * 16, ("client",), 7, "web")


def test_an_address_is_one_of_twisted() -> None:
    verifyObject(IAddress, PUMP)


def test_it_shows_as_node_and_service() -> None:
    assert str(PUMP) == "pump-07:web"


def test_programs_of_tcp_find_a_host_and_no_port() -> None:
    assert PUMP.host == "pump-07"
    assert not hasattr(PUMP, "port")


def test_equal_addresses_are_one_key() -> None:
    assert len({PUMP, MeshAddress("pump-07", "ab" * 16, ("client",), 7, "web")}) == 1
