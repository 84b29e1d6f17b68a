# SPDX-License-Identifier: MIT
"""One authority, three nodes and an operator, and every way to run a command against them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from authority.postgres_server import PostgresServer
from live.conftest import Daemon, warned
from live.forks import Forked, Forks
from live.node_rig import until
from live.safe_server import safe_server

from gmesh.cli.demo_ports import Ports
from gmesh.testing.patience import STEP, ProcessPatience

GMESH = [sys.executable, "-m", "gmesh.cli.main"]
PHRASE = "correct horse battery staple\n"
DEADLINE = 180.0
ROWS, COLUMNS = 40, 80


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


class Running:
    """
    A command, in a pipe or with a terminal each for what it prints and for its errors.

    @param controlled: make the terminal its controlling one, so that ^C typed there reaches it.
    @param forks: fork it from there; a controlled one has a whole start of its own.
    """

    def __init__(
        self, arguments: Sequence[str], directory: Path, environment: dict[str, str],
        terminal: bool, stdin: bytes = b"", controlled: bool = False, forks: Forks | None = None,
    ) -> None:  # fmt: skip
        self._texts = [b"", b""]
        pairs = [pty.openpty() if terminal else os.pipe() for _ in range(2)]
        if terminal:
            fcntl.ioctl(pairs[0][0], termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._masters = [pair[0] for pair in pairs]
        slaves = [pair[1] for pair in pairs]
        self._terminal = terminal
        environment = environment | {"TERM": "xterm-256color"}
        typed = slaves[0] if terminal and not stdin else None
        self.process: Forked | subprocess.Popen[bytes]
        if forks is not None and not controlled:
            self.process = forks.start(arguments, directory, environment, (typed, slaves[0], slaves[1]))
        else:
            program = ["setsid", "--ctty", "--wait", *GMESH] if controlled else GMESH
            self.process = subprocess.Popen(
                [*program, *arguments],
                cwd=directory,
                env=environment,
                stdin=subprocess.PIPE if typed is None else typed,
                stdout=slaves[0],
                stderr=slaves[1],
            )
        for slave in slaves:
            os.close(slave)
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(stdin)

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._texts[0].decode("utf-8", "replace").replace("\r\n", "\n")

    def type(self, keys: bytes) -> None:
        """Type at its terminal."""
        os.write(self._masters[0], keys)

    def until(self, enough: Callable[[], bool], what: str = "") -> None:
        """Read until that is so, or until it has ended if C{enough} never is."""
        patience = ProcessPatience(DEADLINE)
        while self._masters_open and not enough():
            if not patience.lasts():
                self.process.kill()
                self.process.wait()
                pytest.fail(f"{self.process.args} did not end or show {what}: {self._texts}")
            self._read(STEP)

    @property
    def _masters_open(self) -> list[int]:
        return [master for master in self._masters if master >= 0]

    def _read(self, timeout: float) -> None:
        ready, _, _ = select.select(self._masters_open, [], [], timeout)
        for master in ready:
            try:
                data = os.read(master, 65536)
            except OSError:  # a terminal whose other end is closed
                data = b""
            index = self._masters.index(master)
            self._texts[index] += data
            if not data:
                os.close(master)
                self._masters[index] = -1

    def end(self) -> Ended:
        """Wait for its end."""
        self.until(lambda: False, "its end")
        status = self.process.wait(DEADLINE)
        return Ended(status, self.out, self._texts[1].decode("utf-8", "replace").replace("\r\n", "\n"))


class Rig:
    """
    The mesh a - b - c of network C{lab} in one directory, and commands that run there.

    C{GMESH_STATE} is a, C{GMESH_OPERATOR} an administrator.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._forks = Forks(warned())
        self.daemons: dict[str, Daemon] = {}
        self._numbers = 0
        self._year = 2040
        self._receivers: list[Running] = []
        self._server: PostgresServer | None = None
        self._created: tuple[str, str] | None = None
        self.ends = contextlib.ExitStack()
        phrase = directory / "phrase"
        phrase.touch(0o600)
        phrase.write_text(PHRASE)
        self.environment = warned() | {
            "GMESH_STATE": str(directory / "a"),
            "GMESH_OPERATOR": str(directory / "net/operator"),
            "GMESH_PASSPHRASE_FILE": str(phrase),
        }

    # Running

    def start(
        self, *arguments: str, terminal: bool = False, stdin: str = "", controlled: bool = False
    ) -> Running:
        """Start a command."""
        return Running(
            arguments, self.directory, self.environment, terminal, stdin.encode(), controlled, self._forks
        )

    def run(self, *arguments: str, terminal: bool = False, stdin: str = "") -> Ended:
        """Run a command to its end."""
        return self.start(*arguments, terminal=terminal, stdin=stdin).end()

    def gmesh(self, *arguments: str, check: bool = True) -> str:
        """Run a command that prepares something; what it printed."""
        ended = self.run(*arguments)
        assert ended.status == 0 or not check, (arguments, ended)
        return ended.out.strip()

    def read(self, *arguments: str) -> Any:
        """What a command tells with C{--json}."""
        return json.loads(self.gmesh(*arguments, "--json"))

    # Making

    def fresh(self, stem: str) -> str:
        """A name that nothing has."""
        self._numbers += 1
        return f"{stem}-{self._numbers}"

    def admitted(self, *options: str) -> str:
        """The name of a node that was invited and has joined; no daemon of it runs."""
        name = self.fresh("host")
        invite = self.gmesh("admin", "invite", "--name", name, "--role", "client", *options)
        self.gmesh("join", invite, "--state", name, check="--approve" not in options)
        return name

    def key(self) -> tuple[str, str]:
        """The file of a new key, and its public half."""
        file = f"{self.fresh('key')}.key"
        return file, self.gmesh("key", "create", file)

    def operator(self, role: str) -> tuple[str, str]:
        """The directory of one more operator, and the public half of the key."""
        directory = self.directory / self.fresh("operator")
        directory.mkdir(mode=0o700)
        public = self.gmesh("key", "create", f"{directory.name}/operator.key")
        for name in ("genesis.json", "authority.json"):
            (directory / name).write_bytes((self.directory / "net/operator" / name).read_bytes())
        self.gmesh("admin", "operators", "add", public, "--role", role)
        return directory.name, public

    def unsigned(self, more: str = "") -> tuple[str, str]:
        """
        The file of the next version of the genesis, and its digest; nobody has signed it.

        @param more: what it says beside a later end, as TOML.
        """
        text, out = f"{self.fresh('next')}.toml", f"{self.fresh('unsigned')}.json"
        self._year += 1
        (self.directory / text).write_text(f"expires_at = {self._year}-01-01T00:00:00Z\n{more}")
        newest = self.newest_genesis()
        self.gmesh("genesis", "create", text, "--previous", newest, "--out", out)
        return out, self.gmesh("genesis", "show", out, "--previous", newest, "--digest")

    def newest_genesis(self) -> str:
        """The file of the genesis in force."""
        return "net/authority/genesis.json"

    def signature(self, unsigned: str, digest: str) -> str:
        """The file of the root key's signature."""
        out = f"{self.fresh('root')}.sig"
        self.gmesh(
            "genesis", "sign", unsigned, "--previous", self.newest_genesis(), "--key", "net/root/root.key",
            "--digest", digest, "--out", out,
        )  # fmt: skip
        return out

    def signed_genesis(self, more: str = "") -> str:
        """The file of the next genesis, signed; C{more} as of L{unsigned}."""
        unsigned, digest = self.unsigned(more)
        out = f"{self.fresh('genesis')}.json"
        signature = self.signature(unsigned, digest)
        self.gmesh(
            "genesis", "verify", unsigned, signature, "--previous", self.newest_genesis(), "--out", out
        )
        return out

    def policy(self, max_hops: int) -> str:
        """The file of a policy that differs from the one in force."""
        text = json.loads(self.gmesh("admin", "policy", "show", "--text"))
        file = f"{self.fresh('policy')}.json"
        (self.directory / file).write_text(json.dumps(text | {"max_hops": max_hops}))
        return file

    def copied_authority(self) -> tuple[str, str]:
        """A state directory like the authority's that no daemon uses, and a backup of it."""
        self.gmesh("admin", "backup")
        copy = self.directory / self.fresh("authority")
        copy.mkdir(mode=0o700)
        for path in (self.directory / "net/authority").iterdir():
            if path.is_file():
                kept = copy / path.name
                kept.touch(0o600)
                kept.write_bytes(path.read_bytes())
        backups = sorted((self.directory / "net/authority/backups").glob("*.sqlite"))
        return copy.name, str(backups[-1])

    def new_database(self) -> tuple[str, str]:
        """The URL of an empty database, and a state directory whose authority has not begun."""
        if self._server is None:
            self._server = self.ends.enter_context(safe_server())
        copy, _ = self.copied_authority()
        for name in ("authority.sqlite*", "audit.jsonl"):
            for path in (self.directory / copy).glob(name):
                path.unlink()
        return self._server.database(), copy

    def created_database(self) -> tuple[str, str]:
        """The URL of a database that an authority began in, and the state directory of that."""
        if self._created is None:
            self._created = self.new_database()
            self.gmesh("database", "create", self._created[0], "--state", self._created[1])
        return self._created

    def reload_authority(self) -> None:
        """Have it read its files again, and wait until it has."""
        authority = self.daemons["authority"]
        seen = len(authority.log.splitlines())
        authority.signal(signal.SIGHUP)
        authority.wait_for("reloaded: ", seen)

    def _receives(self, node: str, service: str) -> bool:
        """Whether a program of this node receives messages to C{service}."""
        rows = self.read("services", "--state", node)
        return any(row["service"] == service and row["messages"] for row in rows)

    def served(self, node: str, service: str) -> None:
        """See that a program on C{node} receives C{service}."""
        if not self._receives(node, service):
            self._receivers.append(self.start("receive", "--service", service, "--state", node))
            until(lambda: self._receives(node, service))

    def restart(self, name: str, *more: str) -> None:
        """Start a daemon that was stopped again, as it was, or with more options."""
        self.daemons[name] = Daemon([*self.daemons[name].arguments, *more], self.directory)

    def no_more(self) -> None:
        """Nothing is started any more."""
        self._forks.close()

    def close(self) -> None:
        """End the programs that receive."""
        for running in self._receivers:
            running.process.send_signal(signal.SIGINT)
            running.end()


@contextlib.contextmanager
def running_rig(directory: Path) -> Iterator[Rig]:
    """Make the network, start its daemons, and stop them at the end, each cleanly."""
    rig = Rig(directory)
    with rig.ends, Ports() as ports:
        yield from _run_rig(rig, ports(), ports())


def _run_rig(rig: Rig, authority: int, anchor: int) -> Iterator[Rig]:
    url = f"http://127.0.0.1:{authority}"
    rig.gmesh("init", "net", "--network", "lab", "--authority-url", url, "--anchor", f"b=127.0.0.1:{anchor}")

    def daemon(name: str, *arguments: str) -> None:
        rig.daemons[name] = Daemon(list(arguments), rig.directory)
        rig.daemons[name].wait_for("ready|READY|local API")

    try:
        listen = f"tcp:{authority}:interface=127.0.0.1"
        daemon("authority", "gmesh-authority", "--state", "net/authority", "--listen", listen)
        for name, role in (("b", "anchor"), ("a", "client"), ("c", "client")):
            rig.gmesh("join", rig.gmesh("admin", "invite", "--name", name, "--role", role), "--state", name)
            options = ["--listen", f"tcp:{anchor}:interface=127.0.0.1"] if name == "b" else []
            daemon(name, "gmesh-node", "--state", name, *options)
        until(lambda: {"b", "c"} <= {route["name"] for route in rig.read("routes")})
        yield rig
        rig.close()
        for each in reversed(rig.daemons.values()):
            each.stop()
    finally:
        for each in rig.daemons.values():
            if each.process.poll() is None:
                each.kill()
        rig.no_more()
