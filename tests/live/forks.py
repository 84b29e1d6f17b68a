# SPDX-License-Identifier: MIT
"""
C{gmesh} commands as processes of their own, each forked from one that has imported everything already.

A command spends most of its time on imports, and the suite runs hundreds: only those that are about the
start of a process need another interpreter.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

TESTS = Path(__file__).resolve().parents[1]
MOST = 65536
"""Bytes of a request: arguments and environment."""


class Forked:
    """What of C{subprocess.Popen} the tests use."""

    def __init__(self, args: Sequence[str], told: socket.socket, stdin: IO[bytes] | None) -> None:
        self.args = args
        self.stdin = stdin
        self._told = told
        self.pid = int(told.recv(MOST))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """As C{Popen.wait}."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = int(self._told.recv(MOST))
            except TimeoutError as error:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0.0) from error
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As C{Popen.send_signal}, also where it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """As C{Popen.terminate}."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As C{Popen.kill}."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """
    The process that commands are forked from.

    @param environment: what it starts with: the options of the interpreter are those of all commands.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        place = {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "live.forks", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**environment, **place},
            )

    def start(
        self,
        arguments: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        files: tuple[int | None, int, int],
    ) -> Forked:
        """
        Start a command.

        @param files: its standard input, output and error; None for a pipe that is C{stdin} of the answer.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdin, *others = files
        pipe: IO[bytes] | None = None
        opened = [theirs.fileno()]
        if stdin is None:
            stdin, end = os.pipe()
            pipe = os.fdopen(end, "wb")
        request = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)})
        socket.send_fds(self._control, [request.encode()], [stdin, *others, *opened])
        theirs.close()
        if pipe is not None:
            os.close(stdin)
        return Forked(arguments, ours, pipe)

    def run(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], stdin: str, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; what it read, and what it wrote."""
        with (
            tempfile.TemporaryFile() as typed,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            typed.write(stdin.encode())
            typed.seek(0)
            running = self.start(arguments, cwd, env, (typed.fileno(), out.fileno(), err.fileno()))
            try:
                code = running.wait(timeout)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
            wrote = []
            for file in (out, err):
                file.seek(0)
                wrote.append(file.read().decode("utf-8", "replace"))
        return subprocess.CompletedProcess(list(arguments), code, *wrote)

    def close(self) -> None:
        """End it; the commands that run go on."""
        self._control.close()
        self._process.wait()


def _serve(control: socket.socket) -> None:
    """Fork for each request; in the process of a command this returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, _, _ = socket.recv_fds(control, MOST, 4)
        if not request:
            sys.exit(0)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child = os.fork()
            if child:
                _report(child, files)
            return _become(json.loads(request), files)
        for file in files:
            os.close(file)


def _report(child: int, files: Sequence[int]) -> NoReturn:
    """Tell of a command: its process id, and how it ended."""
    *standard, told = files
    for file in standard:
        os.close(file)
    with socket.socket(fileno=told) as tell:
        tell.send(str(child).encode())
        _, status = os.waitpid(child, 0)
        tell.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(request: dict[str, object], files: Sequence[int]) -> None:
    """Take the place of a command that was just started."""
    environment = request["env"]
    assert isinstance(environment, dict) and isinstance(request["arguments"], list)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["gmesh", *request["arguments"]]
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # as the interpreter does
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", errors="backslashreplace", closefd=False)


def _import_all() -> None:
    """All that a command may need; nothing that opens anything."""
    import click

    import gmesh.authority.restore
    import gmesh.node.identity_store
    from gmesh.cli.main import gmesh

    def load(group: click.Group) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                load(command)

    load(gmesh)
    assert "twisted.internet.reactor" not in sys.modules
    gc.collect()
    gc.freeze()  # so that collections in the forks copy none of it


if __name__ == "__main__":
    from gmesh.cli.main import main

    _import_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
