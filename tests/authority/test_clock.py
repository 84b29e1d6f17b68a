# SPDX-License-Identifier: MIT
"""A clock of the authority that was wrong once: nothing of it lasts, and the message names the way out."""

from __future__ import annotations

from typing import Any

import pytest

from gmesh.authority import limits
from gmesh.errors import ConfigurationError

DAY = 86_400
YEAR = 365 * DAY


def test_a18_d2_a_start_years_ahead_is_refused_and_changes_nothing(network: Any) -> None:
    network.stop()
    for ahead in (5 * YEAR, 40 * DAY, DAY + 3600):
        network.offset += ahead
        with pytest.raises(ConfigurationError, match=r"clock of this host.*--clock-is-right") as refused:
            network.start(clock_is_right=False)
        assert refused.value.reason == "clock-jump"
        network.offset -= ahead
    network.clock.advance(1)
    network.start(clock_is_right=False)
    assert network.ask("GET", "/readyz").status == 200
    network.joined("pump-1")


def test_a18_whoever_was_off_for_long_starts_once_with_the_option(network: Any) -> None:
    network.stop()
    network.offset += 90 * DAY
    network.start(clock_is_right=True)
    network.joined("pump-1")
    network.stop()
    network.clock.advance(1)
    network.start(clock_is_right=False)
    network.joined("pump-2")


def test_d2_hours_ahead_at_the_boot_do_not_stop_it_for_hours(network: Any) -> None:
    """A clock in local time, until NTP sets it: what was signed meanwhile counts, and work goes on."""
    network.stop()
    network.offset += 2 * 3600
    network.start(clock_is_right=False)
    network.joined("pump-1")
    network.clock.advance(90)
    network.offset -= 2 * 3600
    assert network.ask("GET", "/readyz").status == 200
    network.joined("pump-2")
    network.restart()
    assert network.ask("GET", "/readyz").status == 200


def test_d2_a_new_time_that_lasts_counts_in_the_end(network: Any) -> None:
    network.stop()
    network.offset += 2 * 3600
    network.start(clock_is_right=False)
    for _ in range(2):
        network.clock.advance(limits.CLOCK_SETTLE_SECONDS)
        network.ask("GET", "/readyz")
    network.offset -= 2 * 3600
    assert network.ask("GET", "/readyz").slug == "clock-suspect"


def test_a18_the_message_names_whose_clock_and_the_way_out(network: Any) -> None:
    network.stop()
    network.offset += 5 * YEAR
    network.start(clock_is_right=True)
    network.joined("pump-1")
    network.stop()
    network.offset -= 5 * YEAR
    network.start(clock_is_right=False)
    answer = network.ask("GET", "/readyz")
    assert answer.slug == "clock-suspect"
    assert "clock of the authority" in answer.json["detail"] and "gmesh restore" in answer.json["detail"]
    network.stop()
    network.restore(None, accept_lost_revocations=True)
    network.clock.advance(1)
    network.start(clock_is_right=False)
    assert network.ask("GET", "/readyz").status == 200
    network.joined("pump-2")
