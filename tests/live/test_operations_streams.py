# SPDX-License-Identifier: MIT
"""The page "Any program, by name": its files at two nodes, and every command on it between them."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.manual_page import ROOT, Shell, commands
from live.stream_rig import DEADLINE, LOOPBACK, Row, free_port, needs, serving, sshd

pytestmark = pytest.mark.live

PAGE = "operations-streams"
TEXT = (ROOT / f"docs/{PAGE}.rst").read_text(encoding="utf-8")
FILES = re.compile(r"^\.\. code-block:: toml\n   :caption: (\S+)\n\n((?:   .*\n|\n)+)", re.MULTILINE)
OVER_SSH = ("ssh ", "scp ", "rsync ", "git ")
COMMANDS = list(commands(PAGE))


def page(connection: socket.socket) -> None:
    """A page of the web behind a PROXY header."""
    head = connection.recv(16, socket.MSG_WAITALL)
    assert head[:12] == b"\r\n\r\n\0\r\nQUIT\n"
    connection.recv(int.from_bytes(head[14:16]), socket.MSG_WAITALL)
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")


class Manual:
    """
    Nodes desk and pump-07 with the files of the page, but for ports and places of this host.

    @ivar shell: at desk.
    """

    def __init__(self, row: Row, web: int, ssh: int) -> None:
        self.row = row
        self.places = {
            "127.0.0.1:22": f"{LOOPBACK}:{ssh}",
            "127.0.0.1:80": f"{LOOPBACK}:{web}",
            "/run/gmesh-node": str(row.directory),
        }
        for port in ("2222", "2223", "8118", "127.0.0.1:8000"):
            self.places[port] = port.replace(port.rpartition(":")[2], str(free_port()))
        files = {name: "" for name in (row.near, row.far)}
        for name, block in FILES.findall(TEXT):
            files[name] += self.here(block.replace("\n   ", "\n").removeprefix("   "))
        for name, text in files.items():
            assert text, name
            row.configure(name, text)
        row.exposed("ssh", "http")
        row.mesh.wait((row.directory / "proxy.sock").exists)
        place = row.directory / "desk-shell"
        place.mkdir()
        self.shell = Shell(place)
        self.shell.run(f"export GMESH_STATE={row.state(row.near)}")
        (place / "report.txt").write_text("4.2 bar\n")

    def here(self, text: str) -> str:
        """The text with the ports and places of this host."""
        pattern = "|".join(map(re.escape, sorted(self.places, key=len, reverse=True)))
        return re.sub(rf"({pattern})(?![0-9])", lambda found: self.places[found[1]], text)

    def run(self, command: str) -> str:
        """One command of the page."""
        return self.shell.run(self.here(command))


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    """Both nodes, and one between them."""
    made = Row(tmp_path_factory.mktemp("page"), free_port(), "desk", "pump-07")
    try:
        made.start()
        yield made
    finally:
        made.mesh.stop()


@pytest.fixture(scope="module")
def manual(row: Row) -> Iterator[Manual]:
    """With a web server, and an sshd where there is one."""
    far = row.directory / "far"
    far.mkdir()
    server = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    sftp = Path(server or "/usr/sbin/sshd").parent.parent / "lib/openssh/sftp-server"
    more = (
        f"Subsystem sftp {sftp}\nSetEnv PATH={os.environ['PATH']}\n"
        f'ForceCommand cd {far} && eval "$SSH_ORIGINAL_COMMAND"'
    )
    with serving(page) as web:
        if server is None:
            made = Manual(row, web, free_port())
            yield made
        else:
            with sshd(row.directory / "ssh", more) as (port, key):
                made = Manual(row, web, port)
                wrap(row, key)
                yield made
        made.shell.close()


def wrap(row: Row, key: Path) -> None:
    """ssh and scp as whoever has the example of the package in place, and the host's key accepted."""
    config = row.directory / "ssh_config"
    config.write_text(
        f"User {pwd.getpwuid(os.getuid()).pw_name}\nIdentityFile {key}\nBatchMode yes\nLogLevel ERROR\n"
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"
        f"Include {ROOT}/debian/examples/gmesh.ssh_config\n"
    )
    place = row.directory / "desk-shell/bin"
    for name, more in (("ssh", ""), ("scp", f"-S {place}/ssh ")):
        (place / name).write_text(f'#!/bin/sh\nexec {needs(name)} -F {config} {more}"$@"\n')
        (place / name).chmod(0o755)


def test_the_page_has_commands_and_files() -> None:
    """Or the rest would say nothing."""
    assert len(COMMANDS) > 12
    assert {name for name, _ in FILES.findall(TEXT)} == {"desk", "pump-07"}


def test_every_command_that_is_not_ssh(manual: Manual) -> None:
    """In the order of the page; each ends well, and pages come from pump-07."""
    needs("curl")
    pages = 0
    for command in COMMANDS:
        if command.startswith(OVER_SSH):
            continue
        # Its authority is not there, which the doctor says.
        out = manual.run(f"{command} || true" if command == "gmesh doctor" else command)
        pages += out.endswith("hello\n")
        if command == "gmesh doctor":
            assert f"leads to {manual.row.far}:ssh" in out
    assert pages == 5


def test_every_command_over_ssh(manual: Manual) -> None:
    """With the example of the package for ssh_config; what is copied arrives."""
    needs("sshd")
    far, place = manual.row.directory / "far", manual.row.directory / "desk-shell"
    git = [needs("git"), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (
        ["init", "-q", "recipes.git"],
        ["-C", "recipes.git", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run([*git, *words], cwd=far, check=True, timeout=DEADLINE)
    for command in COMMANDS:
        if command.startswith(OVER_SSH):
            needs(shlex.split(command)[0])
            manual.run(f"{command} < /dev/null")
    for name in ("received.txt", "synced.txt"):
        assert (far / name).read_text() == "4.2 bar\n"
    assert (place / "recipes/.git").is_dir()


def test_the_example_of_a_port_from_systemd_names_what_it_passes() -> None:
    """The unit, the file, and the parser of endpoints agree on the name of the descriptor."""
    example = (ROOT / "debian/examples/gmesh-forward.socket").read_text()
    [name] = re.findall(r"^FileDescriptorName=(.*)$", example, re.MULTILINE)
    [listen] = re.findall(r'^#   listen = "(.*)"$', example, re.MULTILINE)
    assert listen == f"systemd:domain=INET:name={name}"
    code = (
        "import os, socket, sys\n"
        "passed = socket.create_server(('127.0.0.1', 0))\n"
        "number = passed.getsockname()[1]\n"
        "passed.detach() == 3 or sys.exit('the first descriptor is another')\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES=sys.argv[1])\n"
        "from twisted.internet import reactor\n"
        "from gmesh.daemon.listen import parse_server\n"
        "from twisted.internet.protocol import Factory\n"
        "port = parse_server(reactor, sys.argv[2]).listen(Factory())\n"
        "print(port.result.getHost().port == number)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, name, listen], capture_output=True, timeout=DEADLINE, check=False
    )
    assert (found.stdout, found.stderr) == (b"True\n", b"")
