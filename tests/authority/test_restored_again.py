# SPDX-License-Identifier: MIT
"""One backup is restored a second time: what audits of before were worth at the first, they still are."""

from __future__ import annotations

from typing import Any

import pytest
from authority.network import Network
from authority.test_lost_days import (
    append_row,
    by_status,
    certificate_of,
    enrolments,
    lost_and_restored,
    restated,
    rows,
)
from authority.theft import Theft

from gmesh.authority.audit import certificate_digest
from gmesh.authority.audit_file import survey


@pytest.mark.parametrize("heard", [True, False])
def test_a1_what_a_restore_was_told_the_next_one_knows(theft: Theft, heard: bool) -> None:
    """Nodes hold heads of the new epoch alone by then: a member that was off goes on, whatever it missed."""
    network, young = theft.network, theft.network.joined("pump-2")
    theft.rotate()
    for restores in (1, 2, 3):
        told = lost_and_restored(theft, by_status(theft)).audits
        borne_out = [each.verified for each in told]
        assert len(borne_out) == restores and min(borne_out) > 0
        assert all(each.remark == "" for each in told)
        if heard:
            assert network.heartbeat(young).status == 200
    assert network.renew(young).status == 201
    adopted = rows(network, "adopt")[-1]
    assert (adopted["target"], adopted["grounds"]) == ("pump-2", "audit")
    assert enrolments(network) == []


def test_a1_serials_that_were_accounted_for_stay_so(network: Network, theft: Theft) -> None:
    """The theft is not known yet: a member's serial, with other roles, is refused after the second one."""
    last = certificate_of(network.joined("pump-2")).body.serial
    restated(theft)
    for _ in range(2):
        lost_and_restored(theft, by_status(theft))
        assert network.renew(theft.intruder(serial=last)).slug == "unknown-certificate"


def test_a1_the_row_of_a_restore_that_the_thief_wrote_bears_nothing_out(theft: Theft) -> None:
    """It lies beyond every head that nodes hold, as the join that it is to vouch for did."""
    network, mirror = theft.network, theft.network.path / "audit.jsonl"
    theft.rotate()
    intruder = theft.intruder()
    evidence = by_status(theft)
    append_row(
        mirror,
        at=network.now,
        actor=intruder.node.key_id,
        action="join",
        target="gate",
        serial=77,
        certificate=certificate_digest(certificate_of(intruder).encode()),
    )
    forged = survey(mirror, [])
    lost_and_restored(theft, evidence)
    evidence = by_status(theft)
    head = {"epoch": forged.epoch, "size": forged.size, "head": forged.head}
    append_row(mirror, action="restore", target=str(survey(mirror, []).epoch), borne_out=[head])
    lost_and_restored(theft, evidence)
    assert network.renew(intruder).slug == "enrolment-pending"
    assert theft.members() == ["pump-1"]


@pytest.mark.parametrize("said", [7, [7], [{"epoch": 1, "size": -1, "head": "0" * 64}]])
def test_a1_an_audit_counts_up_to_a_restore_that_names_no_heads(theft: Theft, said: Any) -> None:
    """Somebody wrote it: told in one line, and the rows before it vouch."""
    network, mirror = theft.network, theft.network.path / "audit.jsonl"
    young = network.joined("pump-2")
    theft.rotate()
    append_row(mirror, action="restore", target="1", borne_out=said)
    (told,) = lost_and_restored(theft, by_status(theft)).audits
    assert told.verified == 3 and told.remark.endswith("names no heads")
    assert network.renew(young).status == 201
