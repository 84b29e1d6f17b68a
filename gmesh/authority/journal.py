# SPDX-License-Identifier: MIT
"""
What an answered request leaves behind: a count, a time, and a log line if it changed something or
was refused.  What strangers can have for the asking is only counted.

No line holds text by strangers: routes, reasons and key ids are our own words or hex.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from twisted.logger import Logger

__all__ = ["Exchange", "Journal"]

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
NO_ROUTE = "unknown"
_FREQUENT = frozenset({"POST /heartbeat"})
_ANYBODY = "-"
_LINE = "{route} {status} {reason} caller={caller} address={address} request={request_id} ms={ms}"


@dataclass(slots=True)
class Exchange:
    """
    One request on its way.

    @ivar route: the name of the row that serves it.
    @ivar began: monotonic time.
    @ivar caller: key_id of who signed, once that was verified.
    @ivar operator: whether that is an operator.
    """

    request_id: str
    route: str
    began: float
    address: str = "-"
    caller: str = _ANYBODY
    operator: bool = False


class Journal:
    """
    Counts and logs.

    @param seconds: monotonic time.
    @ivar registry: where the numbers are.
    """

    log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self._seconds = seconds
        self._answers = Counter(
            "gmesh_authority_answers",
            "Answers by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "gmesh_authority_refusals", "Refused requests by reason.", ["reason"], registry=self.registry
        )
        self._time = Histogram(
            "gmesh_authority_answer_seconds",
            "From the whole request to its answer, long polls left out.",
            buckets=BUCKETS,
            registry=self.registry,
        )

    def begin(self, request_id: str, route: str = NO_ROUTE) -> Exchange:
        """A request is here."""
        return Exchange(request_id, route, self._seconds())

    def answered(self, exchange: Exchange, status: int, reason: str = "") -> None:
        """
        It has its answer.

        @param reason: the slug of a problem.
        """
        took = self._seconds() - exchange.began
        self._answers.labels(exchange.route, status).inc()
        if exchange.route != "GET /status":
            self._time.observe(took)
        if reason:
            self._refusals.labels(reason).inc()
            if reason == "rate-limited" or (exchange.caller == _ANYBODY and _reads(exchange.route)):
                return
        elif _reads(exchange.route) or exchange.route in _FREQUENT:
            return
        fields = {
            "route": exchange.route,
            "status": status,
            "reason": reason or "done",
            "caller": exchange.caller,
            "address": exchange.address,
            "request_id": exchange.request_id,
            "ms": round(took * 1000),
        }
        # The text is made here, a tenth of what Twisted's formatter takes; JSON lines go by the template.
        text = _LINE.format(**fields).replace("{", "{{").replace("}", "}}")
        self.log.info(text, template=_LINE, **fields)


def _reads(route: str) -> bool:
    return route == NO_ROUTE or route.startswith("GET ")
