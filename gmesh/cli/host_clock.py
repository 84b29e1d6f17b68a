# SPDX-License-Identifier: MIT
"""
Whether the clock of this host can be right, where what it says decides what is made or believed.

Tests: C{tests/cli/test_join.py}, C{tests/cli/test_init.py}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.limits import CLOCK_DIFFERENCE, CLOCK_FROM, CLOCK_UNTIL
from gmesh.cli.output import moment
from gmesh.errors import ConfigurationError, GmeshError
from gmesh.trust.documents import Document, Genesis, Status, parse_document
from gmesh.trust.invite import Invite

__all__ = ["check_clock", "wrong_clock"]


def check_clock(now: float) -> None:
    """
    See to it that a network does not begin at a time that a host has after the battery of its clock died.

    @param now: Unix seconds.
    @raise ConfigurationError: C{wrong-clock}.
    """
    if not CLOCK_FROM <= now < CLOCK_UNTIL:
        raise ConfigurationError(
            "wrong-clock",
            f"this host's clock says {moment(now)}: set it first, for the genesis is dated by it",
        )


def wrong_clock(
    invite: Invite, authority: RemoteAuthority, chain: Sequence[Document[Genesis]]
) -> ConfigurationError | None:
    """
    Why an authority was refused, if that is this host's clock: at the time of its status all of it is good.

    @param chain: the genesis chain it shows.
    """
    ours = authority.wall()
    try:
        theirs = parse_document(authority.get("/status"), Status).body.issued_at
        if abs(ours - theirs) < CLOCK_DIFFERENCE:
            return None
        invite.check_chain(chain, theirs)
        replace(authority, wall=lambda: theirs).beliefs(invite.network_id, chain)
    except GmeshError:
        return None
    return ConfigurationError(
        "wrong-clock",
        f"this host's clock says {moment(ours)}, the authority's {moment(theirs)}: set it, then join again",
    )
