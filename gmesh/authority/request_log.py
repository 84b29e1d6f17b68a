# SPDX-License-Identifier: MIT
"""
What an answered request leaves behind: a count, a time, and a log line if it changed something or
was refused.  What strangers can have for the asking is only counted.

No line holds text by strangers: routes, reasons and key ids are our own words or hex.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram
from twisted.logger import Logger

__all__ = ["RequestRecord", "RequestLog"]

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
NO_ROUTE = "unknown"
_FREQUENT = frozenset({"POST /heartbeat"})
_ANYBODY = "-"
_LINE = "{route} {status} {reason} caller={caller} address={address} request={request_id} ms={ms}"


@dataclass(slots=True)
class RequestRecord:
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


class RequestLog:
    """
    Names requests, counts and logs them.

    @param seconds: monotonic time.
    @param entropy: random bytes, for the names.
    @ivar registry: where the numbers are.
    """

    log = Logger()

    def __init__(self, seconds: Callable[[], float], entropy: Callable[[int], bytes]) -> None:
        self.registry = CollectorRegistry()
        self._seconds = seconds
        self._entropy = entropy
        answers = Counter(
            "gmesh_authority_answers",
            "Answers by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self._answers = cache(answers.labels)  # finding one costs twice as much as counting it up
        self._refusals = Counter(
            "gmesh_authority_refusals", "Refused requests by reason.", ["reason"], registry=self.registry
        )
        self._time = Histogram(
            "gmesh_authority_answer_seconds",
            "From the whole request to its answer, long polls left out.",
            buckets=BUCKETS,
            registry=self.registry,
        )

    def new_request_id(self) -> str:
        """Names one request in its answer, the log and the audit."""
        return self._entropy(8).hex()

    def begin(self, route: str = NO_ROUTE) -> RequestRecord:
        """A request is here."""
        return RequestRecord(self.new_request_id(), route, self._seconds())

    def answered(self, record: RequestRecord, status: int, reason: str = "") -> None:
        """
        It has its answer.

        @param reason: the slug of a problem.
        """
        took = self._seconds() - record.began
        self._answers(record.route, status).inc()
        if record.route != "GET /status":
            self._time.observe(took)
        if reason:
            self._refusals.labels(reason).inc()
            if reason == "rate-limited" or (record.caller == _ANYBODY and _reads(record.route)):
                return
        elif _reads(record.route) or record.route in _FREQUENT:
            return
        fields = {
            "route": record.route,
            "status": status,
            "reason": reason or "done",
            "caller": record.caller,
            "address": record.address,
            "request_id": record.request_id,
            "ms": round(took * 1000),
        }
        # The text is made here, a tenth of what Twisted's formatter takes; JSON lines go by the template.
        text = _LINE.format(**fields).replace("{", "{{").replace("}", "}}")
        self.log.info(text, template=_LINE, **fields)


def _reads(route: str) -> bool:
    return route == NO_ROUTE or route.startswith("GET ")
