# SPDX-License-Identifier: MIT
"""
Real C{twistd} processes and real C{gmesh} commands for the tests in this directory.

A daemon is waited for by what it logs, never by sleeping, and every daemon that a test
started must end cleanly: stopped by its signal, with no traceback and no secret in its log.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest
from live.forks import Forks

from gmesh.cli.demo_ports import Ports
from gmesh.errors import GmeshError
from gmesh.testing.issuer import Issuer
from gmesh.testing.patience import STEP, ProcessPatience
from gmesh.testing.secrecy import SecretWatch
from gmesh.testing.twistd import environment, start_twistd
from gmesh.trust.invite import INVITE_PREFIX, Invite
from gmesh.trust.keys import SigningKey, noise_keys_from_pem

#: Seconds until which something must have come about: many times what it takes, for machines under load.
DEADLINE = 180.0
COMMAND_DEADLINE = 180.0
CLEAN_ENDS = (0, -signal.SIGTERM)
# Started in the background by a shell, the suite ignores ^C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
TROUBLE = re.compile(r"Traceback|Unhandled|\bcritical\b", re.IGNORECASE)


def warned() -> dict[str, str]:
    """The environment of daemons and commands that are to show their warnings."""
    return environment(PYTHONWARNINGS="default")


class Daemon:
    """
    One C{twistd} process and everything it has written.

    @param arguments: the sub-command and its options.
    @param program: what runs it, instead of C{twistd}.
    """

    def __init__(self, arguments: list[str], directory: Path, program: Sequence[str] = ()) -> None:
        self.arguments = arguments
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self.process = start_twistd(arguments, directory, subprocess.PIPE, command=program, env=warned())
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=[self.process.stdout], daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        """All it has written so far."""
        with self._changed:
            return "\n".join(self._lines)

    def wait_for(self, pattern: str, after: int = 0, timeout: float = DEADLINE) -> int:
        """
        Wait for a line that matches.

        @param pattern: a regular expression, searched in each line.
        @param after: the number of lines to pass over, as an earlier call returned it.
        @return: the number of lines up to and including the match.
        """
        expression = re.compile(pattern)
        seen = after

        def found() -> bool:
            nonlocal seen
            while seen < len(self._lines):
                seen += 1
                if expression.search(self._lines[seen - 1]):
                    return True
            return False

        patience = ProcessPatience(timeout)
        with self._changed:
            while not (arrived := found()) and not self._ended and patience.lasts():
                self._changed.wait(min(STEP, timeout))
        if not arrived:
            pytest.fail(f"{' '.join(self.arguments)}: no line matches {pattern!r}; it wrote:\n{self.log}")
        return seen

    def wait(self, timeout: float = DEADLINE) -> int:
        """Wait until it has ended by itself; its exit status."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self) -> str:
        """Stop it as systemd does, check that it ended cleanly, and return its log."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            pytest.fail(f"{' '.join(self.arguments)} did not stop; it wrote:\n{self.log}")
        assert code in CLEAN_ENDS, f"exit status {code}; it wrote:\n{self.log}"
        assert not TROUBLE.search(self.log), self.log
        return self.log

    def kill(self) -> None:
        """Take it away like a power cut."""
        self.process.kill()
        self.wait()


INVITE = re.compile(re.escape(INVITE_PREFIX) + r"[A-Za-z0-9_-]+")


def know_keys_of(directory: Path) -> None:
    """Load every key that other processes have made there: so the session's watch knows them."""
    for path in directory.rglob("*.key"):
        for load in (SigningKey.from_pem, noise_keys_from_pem):
            with contextlib.suppress(GmeshError):
                load(path.read_bytes())


@pytest.fixture
def start(tmp_path: Path, secrets: SecretWatch) -> Iterator[Callable[..., Daemon]]:
    """
    A function that starts C{twistd -n} with the given arguments.

    After the test every daemon still there is stopped and must end cleanly; one that the test
    has ended itself (L{Daemon.stop}, L{Daemon.kill}, L{Daemon.wait}) is not judged again.
    Where the test failed, what they wrote is told below it.
    """
    started: list[Daemon] = []

    def starter(*arguments: str | Path, program: Sequence[str] = ()) -> Daemon:
        daemon = Daemon([str(argument) for argument in arguments], tmp_path, program)
        started.append(daemon)
        return daemon

    try:
        yield starter
        for daemon in reversed(started):
            if daemon.process.poll() is None:
                daemon.stop()
    finally:
        for daemon in started:
            if daemon.process.poll() is None:
                daemon.kill()
            daemon._reader.join(DEADLINE)
            sys.stdout.write(f"--- {' '.join(daemon.arguments)}\n{daemon.log}\n")
    know_keys_of(tmp_path)
    for daemon in started:
        told = [line for line in daemon.log.splitlines() if secrets.finds(line)]
        assert not told, f"{' '.join(daemon.arguments)} wrote a secret:\n" + "\n".join(told)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """What C{gmesh} commands are forked from."""
    made = Forks(warned())
    yield made
    made.close()


@pytest.fixture
def gmesh(
    tmp_path: Path, secrets: SecretWatch, forks: Forks
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """
    A function that runs one C{gmesh} command to its end; C{check=False} where it shall fail.

    An invite that it prints is known from then on; standard error never holds a secret.
    """

    def runner(
        *arguments: str | Path, check: bool = True, stdin: str = "", timeout: float = COMMAND_DEADLINE
    ) -> subprocess.CompletedProcess[str]:
        run = forks.run(list(map(str, arguments)), tmp_path, warned(), stdin, timeout)
        if check:
            assert run.returncode == 0, f"gmesh {' '.join(map(str, arguments))}: {run.stdout}{run.stderr}"
        assert "Traceback" not in run.stderr, run.stderr
        for invite in INVITE.findall(run.stdout):
            with contextlib.suppress(GmeshError):
                Invite.parse(invite)
        know_keys_of(tmp_path)
        assert not secrets.finds(run.stderr), run.stderr
        return run

    return runner


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """A function that names a TCP port of loopback, a new one each time, which is kept for this test."""
    with Ports() as ports:
        yield ports


@pytest.fixture
def issuer() -> Issuer:
    """An authority of this test alone; its URL leads nowhere."""
    return Issuer.unreachable()


@pytest.fixture
def enrol(issuer: Issuer, tmp_path: Path) -> Callable[..., Path]:
    """A function that makes the state directory of a new node."""

    def made(name: str, *roles: str, cached: bool = True) -> Path:
        state = tmp_path / name
        issuer.write_state(issuer.enrol(name, *roles), state, cached=cached)
        return state

    return made
