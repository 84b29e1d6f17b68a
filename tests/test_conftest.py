# SPDX-License-Identifier: MIT
"""The autouse fixture of C{conftest.py}: what a test leaves behind fails that test, and only that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LEAVERS = """
import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from gmesh.testing.mesh import MemoryMesh
from gmesh.trust.keys import SigningKey

log = Logger()


def test_clean():
    log.info("nothing wrong")


async def test_clean_coroutine():
    done = Deferred()
    reactor.callLater(0, done.callback, None)
    await done


def test_logged_failure():
    try:
        raise ValueError("seen")
    except ValueError:
        log.failure("it failed")


def test_critical_event():
    log.critical("all is lost")


def test_delayed_call():
    reactor.callLater(3600, print)


def test_reader():
    reactor.listenTCP(0, Factory(), interface="127.0.0.1")


def test_lost_deferred():
    fail(ValueError("nobody looked"))


def test_logged_key():
    log.info("key {key}", key=SigningKey.generate().seed.hex())


def test_logged_payload():
    payload = b"canary: the pump runs at 4.2 bar, 17 degrees"
    mesh = MemoryMesh.line("a", "b")
    mesh.run_until(lambda: mesh["a"].reaches("b"))
    mesh["b"].runtime.datagrams.register("log", lambda message: log.debug("got it", message=message.data))
    mesh.result(mesh["a"].runtime.datagrams.send("b", "log", payload))
    mesh.stop()


def test_flushed(flush_logged_errors):
    try:
        raise ValueError("expected")
    except ValueError:
        log.failure("it failed")
    assert len(flush_logged_errors(ValueError)) == 1


def test_flush_of_another_type(flush_logged_errors):
    try:
        raise ValueError("unexpected")
    except ValueError:
        log.failure("it failed")
    assert flush_logged_errors(KeyError) == []
"""


STOPPED = """
import os
import signal
from twisted.internet import reactor
from twisted.internet.defer import Deferred


async def test_that_waits():
    reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)
    await Deferred()


def test_without_fault():
    pass
"""


def run_tests(directory: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own, with the C{conftest.py} that is tested."""
    shutil.copy(Path(__file__).with_name("conftest.py"), directory)
    (directory / "test_leavers.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "--reactor=default", "-p", "no:cacheprovider", "-rA", "-q"]
    return subprocess.run(
        [*command, str(directory)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each test of LEAVERS and how it ended, in a pytest of its own."""
    run = run_tests(tmp_path_factory.mktemp("leavers"), LEAVERS)
    found = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)(.*)$", run.stdout, re.MULTILINE)
    ends = {}
    for outcome, name, text in found:
        if ends.get(name, "PASSED") == "PASSED":
            ends[name] = outcome + text
    assert len(ends) == LEAVERS.count("def test_"), run.stdout + run.stderr
    return ends


@pytest.mark.parametrize("name", ["clean", "clean_coroutine", "flushed"])
def test_clean_tests_pass(outcomes: dict[str, str], name: str) -> None:
    """A test that leaves nothing, or took out what it expected, passes."""
    assert outcomes[f"test_{name}"].startswith("PASSED")


@pytest.mark.parametrize(
    "name",
    [
        "logged_failure",
        "critical_event",
        "delayed_call",
        "reader",
        "lost_deferred",
        "flush_of_another_type",
        "logged_key",
        "logged_payload",
    ],
)
def test_field_t1_what_is_left_fails(outcomes: dict[str, str], name: str) -> None:
    """A logged failure or secret, a delayed call, a reader, a lost Deferred: each fails its own test."""
    assert outcomes[f"test_{name}"].startswith("ERROR")
    assert "left behind by" in outcomes[f"test_{name}"]


def test_a_stopped_reactor_ends_the_session(tmp_path: Path) -> None:
    """SIGTERM, as from timeout(1), is told as what it is, and no other test fails of it."""
    run = run_tests(tmp_path, STOPPED)
    assert run.returncode == 1, run.stdout
    assert (
        "the reactor was stopped, by SIGTERM or a test, before test_leavers.py::test_that_waits" in run.stdout
    )
    assert "test_without_fault" not in run.stdout


@pytest.mark.parametrize(
    ("last", "told"), [(None, "on other machines"), (431.0, "about 7 min, as the last time")]
)
def test_who_runs_the_suite_hears_how_long_it_takes(tmp_path: Path, last: int | None, told: str) -> None:
    """Before the first test; whoever runs a part of it is told nothing."""
    directory = tmp_path / "suite"
    directory.mkdir()
    shutil.copy(ROOT / "tests/conftest.py", directory)
    (directory / "test_one.py").write_text("def test_one():\n    pass\n")
    (directory / "pytest.ini").write_text(
        "[pytest]\ntestpaths = .\npythonpath = .\nmarkers =\n    soak: no\naddopts = --reactor=default\n"
    )
    if last is not None:
        cache = directory / ".pytest_cache/v/gmesh"
        cache.mkdir(parents=True)
        (cache / "suite_seconds").write_text(str(last))

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout

    assert told in run("-m", "not soak").partition("collected")[0]
    assert "as the last time" in run("-m", "not soak")
    assert "this takes about" not in run("-m", "not soak", "test_one.py")
