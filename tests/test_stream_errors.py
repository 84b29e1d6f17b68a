# SPDX-License-Identifier: MIT
"""L{gmesh.stream_errors}: code written for TCP treats streams as it treats TCP."""

from __future__ import annotations

import pytest
from twisted.internet import error

from gmesh.stream_errors import DialRefused, StreamCode, StreamLost, dial_refused


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no-such-service", error.ConnectionRefusedError),
        ("refused", error.ConnectionRefusedError),
        ("timed-out", error.TimeoutError),
        ("unknown-node", error.UnknownHostError),
        ("no-route", error.NoRouteError),
        ("denied", error.ConnectError),
    ],
)
def test_a_dial_fails_as_one_of_tcp_does(reason: str, kind: type[Exception]) -> None:
    failure = dial_refused(reason, "why it is so")
    assert isinstance(failure, kind)
    assert isinstance(failure, error.ConnectError)
    assert isinstance(failure, DialRefused)
    assert (failure.reason, str(failure)) == (reason, "why it is so")


def test_a_broken_stream_is_a_lost_connection_and_never_a_clean_end() -> None:
    lost = StreamLost("revoked")
    assert isinstance(lost, error.ConnectionLost)
    assert not isinstance(lost, error.ConnectionDone)
    assert (lost.reason, str(lost)) == ("revoked", "revoked")


def test_an_unknown_code_reads_as_refused() -> None:
    assert StreamCode.read(15) is StreamCode.REFUSED
    assert StreamCode.of_slug("from-the-future") is StreamCode.REFUSED


def test_the_codes_are_those_of_the_wire() -> None:
    slugs = [
        "done",
        "no-such-service",
        "denied",
        "busy",
        "refused",
        "unreachable",
        "timed-out",
        "aborted",
        "stopped",
        "revoked",
        "expired",
        "stale",
        "protocol",
        "restarted",
        "unknown-stream",
    ]
    assert [StreamCode.read(number).slug for number in range(15)] == slugs
    assert [StreamCode.of_slug(slug) for slug in slugs] == list(range(15))
