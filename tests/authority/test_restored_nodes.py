# SPDX-License-Identifier: MIT
"""What a restore makes of nodes on a CRL: their bounds, and when their last certificate ends."""

from __future__ import annotations

import json

import pytest
from authority.network import Network
from authority.state_files import DAY, POLICY_TEXT
from authority.theft import Theft

from gmesh.authority.store.transaction import SERIALS_PER_EPOCH
from gmesh.trust.documents import Certificate, Crl, Policy, parse_document
from gmesh.trust.limits import MAX_NUMBER, MAX_TIME

STRANGER = "ab" * 16
MAX = POLICY_TEXT["certificate"]["max"]


def crl(network: Network) -> Crl:
    """As it is served."""
    return parse_document(network.ask("GET", "/crl").body, Crl).body


def test_a2_a_dropped_key_bounds_no_serial_to_come(theft: Theft) -> None:
    """A thief's entry ends when any certificate has, and cuts nothing that is given out after the restore."""
    network, pump = theft.network, theft.honest
    theft.rotate()
    nodes = sorted([(STRANGER, MAX_NUMBER, MAX_TIME, 0), (pump.node.key_id, MAX_NUMBER, 1, 5)])
    done = theft.restore(
        [theft.held(Crl), theft.forged(Crl, revoked_nodes=tuple(nodes))], [theft.held(Policy)]
    )
    assert sorted(done.revoked_by_dropped_keys) == [f"node {STRANGER}", "pump-1"]
    assert pump.certificate is not None
    first = done.epoch * SERIALS_PER_EPOCH
    assert set(crl(network).revoked_nodes) == {
        (STRANGER, first, network.now - 1 + MAX, 0),
        (pump.node.key_id, first, pump.certificate.body.not_after, 5),
    }
    assert network.renew(pump).slug == network.heartbeat(pump).slug == "cert-revoked"
    again = network.invite("pump-1")
    again.node, again.noise = pump.node, pump.noise
    assert network.join(again).status == 201
    assert network.heartbeat(again).status == 200


def test_a4_certificates_that_a_lost_database_gave_out_are_covered(theft: Theft) -> None:
    """A node that renewed after the backup is revoked for as long as that certificate can live."""
    network, pump = theft.network, theft.honest
    assert pump.certificate is not None
    network.clock.advance(15 * 3600)
    young = network.renew(pump).json["certificate"]["signed"]
    theft.restore_honestly()
    restored_at = network.now - 1
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    ((node_id, below, end, _),) = crl(network).revoked_nodes
    assert node_id == pump.node.key_id and young["serial"] < below
    assert (end, young["not_after"] < end) == (restored_at + MAX, True)


@pytest.mark.parametrize("way", ["heartbeat", "renew"])
def test_a3_one_let_in_again_after_the_backup_is_not_revoked_by_it(theft: Theft, way: str) -> None:
    """Below the bound of the CRL everything is revoked, and what a node got afterwards is not."""
    network, pump = theft.network, theft.honest
    assert network.admin("POST", "/admin/revocations", {"node": "pump-1"}).status == 201
    again = network.invite("pump-1")
    again.node, again.noise = pump.node, pump.noise
    assert network.join(again).status == 201
    theft.restore_honestly()
    assert network.renew(pump).slug == network.heartbeat(pump).slug == "cert-revoked"
    assert getattr(network, way)(again).status in (200, 201)
    assert network.renew(again).status in (200, 201)
    assert network.renew(pump).slug == network.heartbeat(pump).slug == "cert-revoked"


def test_a_certificate_revoked_alone_takes_no_other_with_it(theft: Theft) -> None:
    """Not even the newest that the backup knows: its node renews with the one that it got later."""
    network, pump = theft.network, theft.honest
    assert pump.certificate is not None
    old = pump.certificate
    network.clock.advance(15 * 3600)
    young = network.renew(pump)
    assert network.admin("POST", "/admin/revocations", {"serial": old.body.serial}).status == 201
    theft.restore_honestly()
    assert network.renew(pump).slug == "cert-revoked"
    pump.certificate = parse_document(json.dumps(young.json["certificate"]).encode(), Certificate)
    assert network.heartbeat(pump).status == 200
    assert network.renew(pump).status == 201


@pytest.mark.parametrize("way", ["heartbeat", "renew"])
def test_one_that_took_a_free_name_after_the_backup_keeps_it(theft: Theft, way: str) -> None:
    """The holder that the backup knows ended too long ago to renew: its name was free, and still is."""
    network = theft.network
    network.clock.advance(62 * DAY)
    heir = network.joined("pump-1")
    theft.restore_honestly()
    assert getattr(network, way)(heir).status in (200, 201)
    assert network.renew(theft.honest).slug == "cert-expired"
