# SPDX-License-Identifier: MIT
"""A CRL that has been growing for a while."""

from __future__ import annotations

from authority.network import Network

from gmesh.authority.store import certificates
from gmesh.authority.store.transaction import Transaction

DAY = 86_400


def list_nodes(network: Network, count: int) -> None:
    """So many nodes that nobody knows any more are on a CRL, one ending half a day after another."""

    def add(tx: Transaction) -> None:
        for number in range(count):
            end = tx.now + number * DAY // 2
            certificates.revoke_node(tx, f"{number:032x}", number + 1, end, 0)

    network.authority.store.decide(add)
    network.joined("gone")
    assert network.admin("POST", "/admin/revocations", {"node": "gone"}).status == 201
