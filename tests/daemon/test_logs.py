# SPDX-License-Identifier: MIT
"""The lines of the log: text, JSON, either with its priority for the journal; and from which level on."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import Application
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, textFileLogObserver
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.scripts.twistd import ServerOptions

from gmesh.daemon.logs import (
    Lines,
    LoggedService,
    LogLevelService,
    json_line,
    observer_factory,
    parse_level,
    text_line,
    under_journal,
)
from gmesh.errors import ConfigurationError
from gmesh.node.tap import Options


def event(text: str, level: Any = LogLevel.warn, **fields: Any) -> LogEvent:
    """As a Logger makes it."""
    made: list[LogEvent] = []
    publisher = LogPublisher(made.append)
    Logger("gmesh.mesh", observer=publisher).emit(level, text, **fields)
    made[0]["log_time"] = 1_800_000_000.25
    return made[0]


def failed() -> Failure:
    try:
        raise ValueError("no\x1b[31m")
    except ValueError:
        return Failure()


def test_a_line_of_text() -> None:
    """Time, place, level and what; nothing a peer says makes a second event or moves the cursor."""
    line = text_line(event("refused {who}", who="a\nb\x1b[2J"))
    assert line == "2027-01-15T08:00:00.250Z [gmesh.mesh#warn] refused a\n\tb\\x1b[2J\n"
    traceback = text_line(event("it failed", LogLevel.critical, log_failure=failed()))
    first, *more = traceback.splitlines()
    assert first.endswith("[gmesh.mesh#critical] it failed")
    assert all(each.startswith("\t") for each in more)
    assert "ValueError: no\\x1b[31m" in traceback


def test_a_line_of_json() -> None:
    """What its format names and nothing else: an object that came along stays here."""
    line = json_line(
        event("refused {who} after {seconds} s", who="a\nb", seconds=1.5, secret="s", peer=object())
    )
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "time": "2027-01-15T08:00:00.250Z",
        "level": "warn",
        "namespace": "gmesh.mesh",
        "message": "refused a\nb after 1.5 s",
        "event": "refused {who} after {seconds} s",
        "fields": {"who": "a\nb", "seconds": 1.5},
    }
    told = json.loads(json_line(event("it failed", LogLevel.critical, log_failure=failed())))
    assert "ValueError" in told["traceback"]
    assert told.keys().isdisjoint({"event", "fields"})


@given(
    st.text(),
    st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.text() | st.floats() | st.none()),
    st.sampled_from(list(LogLevel.iterconstants())),
)
def test_any_event_is_one_line(text: str, fields: dict[str, Any], level: Any) -> None:
    """However odd its format and fields: an observer that raises would be taken out of service."""
    made = event("x", level)
    made.update(fields, log_format=text)
    told = json_line(made)
    assert told.count("\n") <= 1
    assert not told or json.loads(told)["level"] == level.name
    lines = text_line(made).split("\n")
    assert lines.pop() == ""
    assert all(line.startswith("\t") for line in lines[1:])


def test_an_event_without_text_is_no_line() -> None:
    """Twisted has such."""
    assert text_line({"log_level": LogLevel.info}) == json_line({"log_level": LogLevel.info}) == ""


def journalled(log_format: str, monkeypatch: pytest.MonkeyPatch, path: Path) -> list[str]:
    """What a file gets to hold that is the journal, as far as the environment says."""
    with path.open("w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert under_journal(environ, stream)
        observer = observer_factory(log_format, None, environ)()
        for level in LogLevel.iterconstants():
            observer(event("two\nlines", level))
    return path.read_text().splitlines()


def test_priorities_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line with its own, by sd-daemon(3): 7 debug, 6 info, 4 warning, 3 error, 2 critical."""
    lines = journalled("", monkeypatch, tmp_path / "text")
    assert lines[:2] == ["<7>[gmesh.mesh#debug] two", "<7>\tlines"]
    assert [line[:3] for line in lines[::2]] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    lines = journalled("json", monkeypatch, tmp_path / "json")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>"]
    assert all(json.loads(line[3:])["message"] == "two\nlines" for line in lines)


def test_when_it_is_not_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was inherited, a stream without a file, another file: as twistd logs anyway."""
    with (tmp_path / "log").open("w") as stream:
        assert not under_journal({"JOURNAL_STREAM": "1:2"}, stream)
        assert not under_journal({}, stream)
    assert not under_journal({"JOURNAL_STREAM": "1:2"}, io.StringIO())
    standard = io.StringIO()
    monkeypatch.setattr("sys.stdout", standard)
    factory, twistds = observer_factory("", None, {}), io.StringIO()
    for observer in (factory(), textFileLogObserver(twistds)):
        observer(event("hello"))
    assert standard.getvalue() == twistds.getvalue() != ""


def test_a_log_file(tmp_path: Path) -> None:
    """--logfile of twistd is kept to, in our format or in twistd's."""
    twistds = io.StringIO()
    textFileLogObserver(twistds)(event("hello"))
    for log_format, name in (("json", "ours"), ("", "twistds")):
        observer: Any = observer_factory(log_format, str(tmp_path / name), {})()
        observer(event("hello"))
        observer._stream.close()
    assert json.loads((tmp_path / "ours").read_text())["message"] == "hello"
    assert (tmp_path / "twistds").read_text() == twistds.getvalue()


def within_twistd(*arguments: str) -> Options:
    """The daemon's options, read by twistd itself as part of its own."""
    whole = ServerOptions()
    own = [each for each in arguments if each == "--syslog"]
    whole.parseOptions(["--nodaemon", *own, "gmesh-node", *(each for each in arguments if each not in own)])
    options = whole.subOptions
    assert isinstance(options, Options)
    return options


def test_twistd_is_told(tmp_path: Path) -> None:
    """Before it logs its first line; with nothing to tell it, it does as always."""
    (tmp_path / "node.toml").write_text('state = "/s"\nlog_format = "json"\n')
    assert callable(within_twistd("--config", str(tmp_path / "node.toml")).observer)
    assert callable(within_twistd("--state", "/s", "--log-format", "text").observer)
    assert within_twistd("--state", "/s", "--syslog").observer is None
    with pytest.raises(UsageError, match="--syslog has a format of its own"):
        within_twistd("--state", "/s", "--syslog", "--log-format", "json")
    with pytest.raises(SystemExit, match="'xml' is not a log format: there are text, json"):
        within_twistd("--state", "/s", "--log-format", "xml")


def test_the_application_logs_with_it(tmp_path: Path) -> None:
    """twistd finds the observer where it looks: among the components of the application."""
    chosen = Lines(io.StringIO(), "json", journal=False)
    for observer, found in ((lambda: chosen, chosen), (None, None)):
        application = Application("gmesh-node")
        LoggedService(None, observer).setServiceParent(application)
        assert application.getComponent(ILogObserver) is found


def test_another_format_while_it_runs() -> None:
    """From the next event on, in the same stream; where twistd logs by itself it is refused."""
    stream = io.StringIO()
    lines = Lines(stream, "", journal=False)
    service = LoggedService(None, lambda: lines)
    service.setServiceParent(Application("gmesh-node"))
    for name in ("", "json", "text", "json"):
        service.use_format(name)
        lines(event("hello"))
    _, json_one, text_one, last = stream.getvalue().splitlines()
    assert json.loads(json_one)["message"] == json.loads(last)["message"] == "hello"
    assert text_one.endswith("[gmesh.mesh#warn] hello")
    with pytest.raises(ConfigurationError, match="twistd writes this log"):
        LoggedService(None, None).use_format("json")


def test_the_journal_keeps_its_priorities(tmp_path: Path) -> None:
    """Whatever the format becomes."""
    stream = io.StringIO()
    lines = Lines(stream, "", journal=True)
    for name in ("json", "text", ""):
        lines.use(name)
        lines(event("hello"))
    assert [line[:3] for line in stream.getvalue().splitlines()] == ["<4>"] * 3


def test_a_level_holds_until_it_is_changed_or_the_daemon_stops() -> None:
    """Below it nothing reaches any observer; after the stop they are as they were."""
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        seen.append(event["log_format"])

    publisher = LogPublisher(observe)
    log = Logger(observer=publisher)
    service = LogLevelService(LogLevel.warn, publisher)
    service.startService()
    log.info("one")
    log.warn("two")
    service.set(LogLevel.debug)
    log.debug("three")
    service.set(LogLevel.error)
    log.warn("four")
    service.stopService()
    log.debug("five")
    assert seen == ["two", "three", "five"]


def test_a_level_that_there_is_not() -> None:
    """The error names those there are."""
    with pytest.raises(ConfigurationError, match="there are debug, info, warn, error, critical"):
        parse_level("loud")
