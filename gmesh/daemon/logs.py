# SPDX-License-Identifier: MIT
"""
What the daemon logs, as lines of text or as JSON lines, and with its priority for the journal.

twistd asks for the observer before it logs anything; under systemd, whose journal reads standard
output, each line begins with C{<N>} as C{sd-daemon(3)} describes.  Tests: C{tests/daemon/test_logs.py}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from math import isfinite
from string import Formatter
from types import FrameType
from typing import Any, TextIO

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    formatEvent,
    globalLogPublisher,
    textFileLogObserver,
)
from twisted.python import usage
from twisted.python.components import Componentized
from zope.interface import implementer

from gmesh.daemon.logfile import RotatedFile
from gmesh.errors import ConfigurationError

__all__ = [
    "LOG_FORMATS",
    "Lines",
    "LogLevelService",
    "LoggedService",
    "json_line",
    "observer_factory",
    "observer_for",
    "parse_level",
    "text_line",
    "under_journal",
]

LOG_FORMATS = ("text", "json")

_PRIORITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}
_PLAIN = (str, int, float, bool, type(None))


def under_journal(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether this stream is the one that systemd connected to its journal."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


@implementer(ILogObserver)
class Lines:
    """
    Writes each event as lines of a format, which may become another one.

    @param stream: where to.
    @param log_format: C{text}, C{json}, or nothing: twistd's own, but text for the journal.
    @param journal: whether systemd's journal reads the stream.
    """

    def __init__(self, stream: Any, log_format: str, journal: bool) -> None:
        self._stream = stream
        self._journal = journal
        self.use(log_format)

    def use(self, log_format: str) -> None:
        """From the next event on."""
        line = json_line if log_format == "json" else text_line
        if self._journal:
            self._observer: ILogObserver = FileLogObserver(self._stream, partial(_for_journal, line))
        elif log_format:
            self._observer = FileLogObserver(self._stream, line)
        else:
            self._observer = textFileLogObserver(self._stream)

    def __call__(self, event: LogEvent) -> None:
        """Write it."""
        self._observer(event)

    def turn_over(self) -> None:
        """Go on in a fresh file, if these lines go to one. @raise OSError: as L{RotatedFile.turn_over}."""
        if isinstance(self._stream, RotatedFile):
            self._stream.turn_over()


def observer_factory(log_format: str, logfile: str | None, environ: Mapping[str, str]) -> Callable[[], Lines]:
    """
    What makes the observer that twistd logs with.

    @param log_format: C{text}, C{json} or nothing.
    @param logfile: as given to twistd: a path, C{-} for standard output, or nothing.
    """
    to_file = bool(logfile) and logfile != "-"

    def make() -> Lines:
        if to_file:
            return Lines(RotatedFile.fromFullPath(logfile), log_format, journal=False)
        # Standard output is None if whoever started the daemon has closed it.
        stream = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it stays open
        return Lines(stream, log_format, under_journal(environ, stream))

    return make


def observer_for(twistd: usage.Options | None, log_format: str) -> Callable[[], Lines] | None:
    """
    What a daemon logs with from its first line on, by the options of twistd.

    @param twistd: the options that the daemon's are part of, or None outside of twistd.
    @raise UsageError: when both have a say in the format.
    """
    if twistd is None or twistd.get("logger"):
        return None
    if twistd.get("syslog"):
        if log_format:
            raise usage.UsageError("--syslog has a format of its own: leave log-format out")
        return None
    logfile = twistd.get("logfile") or (None if twistd.get("nodaemon") else "twistd.log")
    # Not as twistd's option "logger", which it would take for a name to import.
    return observer_factory(log_format, logfile, os.environ)


class LoggedService(MultiService):
    """
    A daemon that twistd logs with an observer of its own choice, from the first line on.

    SIGUSR1 turns its log file over; without one it changes nothing.

    @param observer: makes it, when the application has this service; None for twistd's own.
    """

    _log = Logger()

    def __init__(self, reactor: Any, observer: Callable[[], Lines] | None) -> None:
        super().__init__()
        self._reactor = reactor
        self._observer = observer
        self._lines: Lines | None = None
        self._before: Any = None

    def setServiceParent(self, parent: Any) -> None:
        """Take a place in the application, and register the observer there."""
        if self._observer is not None and isinstance(parent, Componentized):
            self._lines = self._observer()
            parent.setComponent(ILogObserver, self._lines)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Take SIGUSR1 over before the first port is open."""
        self._take_signal()
        super().privilegedStartService()

    def startService(self) -> None:
        """Start all that belongs to the daemon."""
        self._take_signal()
        super().startService()

    def stopService(self) -> Deferred[Any]:
        """Stop all that belongs to it, then give SIGUSR1 back."""
        stopping = maybeDeferred(super().stopService)
        stopping.addBoth(self._give_back)
        return stopping

    def _take_signal(self) -> None:
        if self._before is None:
            self._before = signal.signal(signal.SIGUSR1, self._signalled)

    def _give_back(self, result: Any) -> Any:
        before, self._before = self._before, None
        signal.signal(signal.SIGUSR1, before)
        return result

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._turn_over)

    def _turn_over(self) -> None:
        try:
            if self._lines is not None:
                self._lines.turn_over()
        except OSError as error:
            self._log.error("the log file is not turned over: {cause}", cause=error.strerror)

    def use_format(self, log_format: str) -> None:
        """
        Log in this format from now on.

        @raise ConfigurationError: where twistd logs with an observer of its own.
        """
        if self._lines is None:
            raise ConfigurationError("not-ours", "twistd writes this log: restart the node to change it")
        self._lines.use(log_format)


def parse_level(name: str) -> Any:
    """
    The level of this name.

    @raise ConfigurationError: naming those there are.
    """
    levels = {level.name: level for level in LogLevel.iterconstants()}
    if name not in levels:
        raise ConfigurationError("bad-level", f"{name!r} is not a log level: there are {', '.join(levels)}")
    return levels[name]


class LogLevelService(Service):
    """
    Keeps events below a level from every observer that is there when the level is set, until it stops.

    Twisted sets the level when an observer is made, and twistd makes them: so the filter goes in front.

    @param level: from the start on, or None to leave everything as it is.
    """

    def __init__(self, level: Any = None, publisher: LogPublisher = globalLogPublisher) -> None:
        self._level = level
        self._publisher = publisher
        self._wrapped: dict[ILogObserver, ILogObserver] = {}

    def startService(self) -> None:
        """Apply the level of the configuration."""
        super().startService()
        if self._level is not None:
            self.set(self._level)

    def stopService(self) -> None:
        """Leave the observers as they were."""
        super().stopService()
        self._unwrap()

    def set(self, level: Any) -> None:
        """Log from C{level} on."""
        self._unwrap()
        predicate = LogLevelFilterPredicate(defaultLogLevel=level)
        # LogPublisher has no public way to list its observers.
        for observer in list(self._publisher._observers):
            wrapped = FilteringLogObserver(observer, [predicate])
            self._publisher.removeObserver(observer)
            self._publisher.addObserver(wrapped)
            self._wrapped[wrapped] = observer

    def _unwrap(self) -> None:
        for wrapped, observer in self._wrapped.items():
            self._publisher.removeObserver(wrapped)
            self._publisher.addObserver(observer)
        self._wrapped = {}


def text_line(event: LogEvent, timed: bool = True) -> str:
    """One event as text; its further lines are indented, so that none is taken for an event."""
    place = f"[{event.get('log_namespace', '-')}#{_level(event).name}]"
    text = _printable("\n".join(part for part in (formatEvent(event), _traceback(event)) if part))
    if not text:
        return ""
    return " ".join([*([_time(event)] if timed else []), place, text.replace("\n", "\n\t")]) + "\n"


def json_line(event: LogEvent, timed: bool = True) -> str:
    """
    One event as a JSON object: only what its format names goes out, nothing else that came with it.

    An event whose format is its text already says in C{template} what it was made from.
    """
    text, traceback = formatEvent(event), _traceback(event)
    if not text and not traceback:
        return ""
    line: dict[str, Any] = {
        "time": _time(event),
        "level": _level(event).name,
        "namespace": event.get("log_namespace", "-"),
        "message": text,
    }
    template = str(event.get("template") or event.get("log_format") or "")
    named = [name for name in _named(template) if isinstance(event.get(name, ...), _PLAIN)]
    fields = {name: _plain(event[name]) for name in named}
    if fields:
        line["event"] = template
        line["fields"] = fields
    if traceback:
        line["traceback"] = traceback
    return json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _named(template: str) -> list[str]:
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name]
    except ValueError:
        return []
    return [name for name in names if not name.startswith("log_")]


def _for_journal(line: Callable[[LogEvent, bool], str], event: LogEvent) -> str:
    """Without the time, which the journal keeps itself; each line with the priority, which it forgets."""
    mark = f"<{_PRIORITIES[_level(event)]}>"
    return "".join(mark + text for text in line(event, False).splitlines(keepends=True))


def _level(event: LogEvent) -> Any:
    return event.get("log_level") or (LogLevel.critical if "log_failure" in event else LogLevel.info)


def _time(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time") or 0, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return "" if failure is None else str(failure.getTraceback())


def _printable(text: str) -> str:
    """Control characters by their escapes: what a peer says moves no cursor."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else ascii(character)[1:-1]
        for character in text
    )
