# SPDX-License-Identifier: MIT
"""
What the authority's documents contradicted: said once, and remembered until a restore raises the epoch.

Two documents of one number prove that two authorities work with one key, or that one lost its memory:
a node can neither decide which is right nor forget it at a restart.
Tests: C{tests/node/test_alarms.py}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from gmesh.node.limits import MAX_ALARMS
from gmesh.node.node_state import KeptAlarm

__all__ = ["Alarms"]

_NEWS = frozenset({"audit-epoch", "epoch-jump"})
"""What an honest restore does, too: worth a line, no fault."""


class Alarms:
    """
    The alarms of one node.

    @param kept: slug -> alarm, as stored; changed in place.
    @param wall: Unix seconds.
    @param save: called after a change.
    """

    _log = Logger()

    def __init__(
        self, kept: dict[str, KeptAlarm], wall: Callable[[], float], save: Callable[[], object]
    ) -> None:
        self._kept = kept
        self._wall = wall
        self._save = save
        self._said = {(slug, alarm.detail) for slug, alarm in kept.items()}

    @property
    def kept(self) -> dict[str, KeptAlarm]:
        """Those that are not over, by slug."""
        return dict(self._kept)

    def raised(self, slug: str, detail: str, epoch: int) -> None:
        """
        Something contradicts.

        @param epoch: of the authority, as far as is known.
        """
        if (slug, detail) not in self._said and sum(known == slug for known, _ in self._said) < MAX_ALARMS:
            self._said.add((slug, detail))
            self._log.error("alarm {slug}: {detail}", slug=slug, detail=detail)
        if slug in _NEWS:
            return
        known = self._kept.get(slug)
        if known is None:
            self._kept[slug] = KeptAlarm(detail, int(self._wall()), epoch)
        else:
            known.detail, known.count = detail, known.count + 1
        self._save()

    def over(self, slug: str) -> None:
        """What this alarm was about is over."""
        if self._kept.pop(slug, None) is not None:
            self._said = {each for each in self._said if each[0] != slug}
            self._log.info("alarm {slug} is over", slug=slug)
            self._save()

    def settle(self, epoch: int) -> None:
        """A status of this epoch is in force: what was before it is over."""
        over = [slug for slug, alarm in self._kept.items() if alarm.epoch < epoch]
        for slug in over:
            del self._kept[slug]
            self._log.info("alarm {slug} is over: the authority was restored", slug=slug)
        if over:
            self._said.clear()
            self._save()
