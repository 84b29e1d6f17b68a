# SPDX-License-Identifier: MIT
"""Programs nobody here wrote, two hops apart: curl, OpenSSH, rsync, git, nginx; skipped where missing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live.stream_rig import DEADLINE, LOOPBACK, Row, free_port, gmesh, needs, serving, sshd

from gmesh.node.gateways.proxy_header import node_address

pytestmark = pytest.mark.live

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


def web(connection: socket.socket) -> None:
    """A page, and nothing else."""
    read = b""
    while b"\r\n\r\n" not in read:
        data = connection.recv(65536)
        if not data:
            return
        read += data
    connection.sendall(PAGE)


def speaks_first(connection: socket.socket) -> None:
    """A greeting before anything was read but a PROXY header; then everything comes back, whole and once."""
    head = connection.recv(16, socket.MSG_WAITALL)
    rest = connection.recv(int.from_bytes(head[14:16]), socket.MSG_WAITALL)
    connection.sendall(b"220 " + str(len(head) + len(rest)).encode() + b"\r\n")
    while data := connection.recv(65536):
        connection.sendall(data)


def drain(connection: socket.socket) -> None:
    """Says one word and reads what comes."""
    connection.sendall(b"word")
    while connection.recv(65536):
        pass


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    """a and c, with b between them."""
    made = Row(tmp_path_factory.mktemp("row"), free_port())
    try:
        made.start()
        yield made
    finally:
        made.mesh.stop()


def expose(row: Row, *tables: tuple[str, str, str]) -> None:
    """Have c expose these: service, target, more lines."""
    text = "".join(f'[[expose]]\nservice = "{name}"\nto = "{to}"\n{more}\n' for name, to, more in tables)
    row.configure("c", text)
    row.exposed(*(name for name, _, _ in tables))


def proxy(row: Row) -> tuple[int, Path]:
    """Have a serve the proxy at a port and at a unix socket."""
    port, path = free_port(), row.directory / "proxy.sock"
    row.configure("a", f'[proxy]\nlisten = ["tcp:{port}", "unix:{path}"]\n')
    row.mesh.wait(path.exists)
    return port, path


def test_curl_by_every_way_of_the_proxy(row: Row) -> None:
    """In absolute form, by CONNECT, by SOCKS, over a unix socket; an address is refused in words."""
    curl = [needs("curl"), "-sS", "-m", str(DEADLINE)]
    with serving(web) as port:
        expose(row, ("http", f"tcp:{LOOPBACK}:{port}", ""))
        at, path = proxy(row)
        ways = (
            ["-x", f"http://{LOOPBACK}:{at}"],
            ["-p", "-x", f"http://{LOOPBACK}:{at}"],
            ["-x", f"socks5h://{LOOPBACK}:{at}"],
            ["-x", f"socks5h://localhost{path}"],
        )
        for way in ways:
            found = row.run(*curl, *way, "http://c.gmesh/")
            assert (found.stdout, found.stderr, found.returncode) == (b"hello", b"", 0), way
        for way in ways[:2]:
            refused = row.run(*curl, *way, "-w", "%{http_code}", f"http://{LOOPBACK}:{port}/")
            assert b"403" in refused.stdout + refused.stderr, way
        refused = row.run(*curl, "--socks5", f"{LOOPBACK}:{at}", f"http://{LOOPBACK}:{port}/")
        assert (refused.returncode, b"(8)" in refused.stderr) == (97, True)
        nothing = row.run(*curl, *ways[0], "-w", "%{http_code}", f"http://c.gmesh:{port}/")
        assert nothing.stdout.endswith(b"404"), "a port of loopback that nobody exposed"


@pytest.fixture(scope="module")
def ssh(row: Row) -> Iterator[list[str]]:
    """An sshd behind c, and the options with which ssh at a gets there by ProxyCommand."""
    with sshd(row.directory / "ssh", "Subsystem sftp internal-sftp") as (port, key):
        expose(row, ("ssh", f"tcp:{LOOPBACK}:{port}", ""))
        by = " ".join(gmesh(row.state("a"), "connect", "%h", "ssh"))
        options = ["-F", "none", "-i", str(key), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
        options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        yield [needs("ssh"), *options, "-o", f"ProxyCommand={by}"]


def user(host: str = "c.gmesh") -> str:
    """Whoever runs this test."""
    import pwd

    return f"{pwd.getpwuid(os.getuid()).pw_name}@{host}"


def test_ssh_by_proxy_command_ends_with_its_command(row: Row, ssh: list[str]) -> None:
    """Its output comes whole, its status too; and nobody has to close its standard input."""
    found = row.run(*ssh, user(), "cat; echo done; exit 3", sent=b"question")
    assert (found.stdout, found.returncode) == (b"questiondone\n", 3)
    began = time.monotonic()
    process = subprocess.Popen([*ssh, user(), "true"], stdin=subprocess.PIPE)
    assert process.wait(DEADLINE) == 0
    assert time.monotonic() - began < DEADLINE / 2
    assert process.stdin is not None
    process.stdin.close()


def test_ssh_by_fdpass_leaves_no_process_in_between(row: Row, ssh: list[str]) -> None:
    """The daemon has the stream, and ssh the other end of it."""
    passing = [*ssh[:-1], ssh[-1] + " --fdpass", "-o", "ProxyUseFdpass=yes"]
    process = subprocess.Popen([*passing, user(), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"hello\n"
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
    between = [
        each for each in commands if b"--fdpass" in each and b"\0connect\0" in each and b"python" in each[:80]
    ]
    assert between == []
    out, _ = process.communicate(b"bye\n", timeout=DEADLINE)
    assert (out, process.returncode) == (b"bye\n", 0)


def readable(path: Path) -> bool:
    """A process may end while it is looked at."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_scp_rsync_and_git_over_ssh(row: Row, ssh: list[str], tmp_path: Path) -> None:
    """Three megabytes arrive whole by each, and each ends with 0."""
    data = os.urandom(3_000_000)
    (tmp_path / "sent").write_bytes(data)
    scp = [needs("scp"), *ssh[1:], str(tmp_path / "sent"), f"{user()}:{tmp_path}/copied"]
    found = row.run(*scp)
    assert (found.returncode, found.stderr) == (0, b"")
    assert (tmp_path / "copied").read_bytes() == data
    command = " ".join(f"'{word}'" for word in ssh)
    git = needs("git")
    row.run(git, "init", "-q", "-b", "main", str(tmp_path / "far"))
    row.run(git, "-C", str(tmp_path / "far"), "add", ".")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "far/file").write_bytes(data)
    row.run(git, "-C", str(tmp_path / "far"), "add", "file")
    row.run(git, "-C", str(tmp_path / "far"), *identity, "commit", "-q", "-m", "one")
    cloned = row.run(
        git,
        "clone",
        "-q",
        f"{user()}:{tmp_path}/far",
        str(tmp_path / "near"),
        env=os.environ | {"GIT_SSH_COMMAND": command},
    )
    assert (cloned.returncode, cloned.stderr) == (0, b"")
    assert (tmp_path / "near/file").read_bytes() == data
    rsync = needs("rsync")
    synced = row.run(
        rsync, "-e", command, f"--rsync-path={rsync}", str(tmp_path / "sent"), f"{user()}:{tmp_path}/synced"
    )
    assert (synced.returncode, synced.stderr) == (0, b"")
    assert (tmp_path / "synced").read_bytes() == data


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def test_nginx_reads_who_is_there(row: Row, tmp_path: Path) -> None:
    """The address made of the node's handle, from the PROXY header, before a request that came with it."""
    nginx, port = needs("nginx"), free_port()
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log stderr; master_process off; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p;\n"
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        f"server {{ listen {LOOPBACK}:{port} proxy_protocol;\n"
        "location / { return 200 $proxy_protocol_addr; } } }\n"
    )
    daemon = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        row.mesh.wait(lambda: answers(port), DEADLINE)
        expose(row, ("web", f"tcp:{LOOPBACK}:{port}", "proxy_protocol = 2"))
        asked = b"GET / HTTP/1.0\r\n\r\n"
        found = row.run(*gmesh(row.state("a"), "connect", "c", "web"), sent=asked)
        status = row.mesh["a"].ask("GET", "/v1/status")
        address = node_address(status["network_id"], status["node_id"])
        assert found.returncode == 0
        assert found.stdout.startswith(b"HTTP/1.1 200 OK\r\n")
        assert found.stdout.endswith(b"\r\n\r\n" + str(address).encode())
    finally:
        daemon.terminate()
        daemon.wait(DEADLINE)


def test_a_service_that_speaks_first_behind_a_header(row: Row) -> None:
    """Neither waits for the other."""
    with serving(speaks_first) as port:
        expose(row, ("smtp", f"tcp:{LOOPBACK}:{port}", "proxy_protocol = 2"))
        found = row.run(*gmesh(row.state("a"), "connect", "c", "smtp"), sent=b"HELO\r\n")
        assert found.returncode == 0
        assert re.fullmatch(rb"220 \d+\r\nHELO\r\n", found.stdout)


def test_a_dead_target_is_told_and_comes_back(row: Row) -> None:
    """Before a byte is sent; where it is stays with c; nothing has to be restarted."""
    port = free_port()
    expose(row, ("web", f"tcp:{LOOPBACK}:{port}", ""))
    command = gmesh(row.state("a"), "connect", "c", "web")
    found = row.run(*command)
    assert (found.returncode, found.stdout) == (1, b"")
    assert b"the service web does not answer" in found.stderr
    assert str(port).encode() not in found.stderr
    with socket.create_server((LOOPBACK, port)) as listening:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"back")
        out, _ = process.communicate(timeout=DEADLINE)
        assert (out, process.returncode) == (b"back", 0)


def test_a_forward_comes_and_goes_with_a_reload_and_touches_no_other(row: Row) -> None:
    """What is open over the one that goes lives on, and a busy port is one line."""
    first, second = free_port(), free_port()
    table = '[[forward]]\nlisten = "tcp:{}"\nto = "c:echo"\n'
    with serving(echo) as port, socket.create_server((LOOPBACK, 0)) as busy:
        expose(row, ("echo", f"tcp:{LOOPBACK}:{port}", ""))
        row.configure("a", table.format(first) + table.format(busy.getsockname()[1]))
        forwards = lambda: row.mesh["a"].ask("GET", "/v1/forwards")  # noqa: E731
        row.mesh.wait(lambda: [bool(each["trouble"]) for each in forwards()] == [False, True])
        with socket.create_connection((LOOPBACK, first)) as connection:
            connection.settimeout(DEADLINE)
            connection.sendall(b"1")
            assert connection.recv(1) == b"1"
            row.configure("a", table.format(second))
            row.mesh.wait(lambda: [each["listen"].split(":")[1] for each in forwards()] == [str(second)])
            connection.sendall(b"2")
            assert connection.recv(1) == b"2"
            with socket.create_connection((LOOPBACK, second)) as other:
                other.settimeout(DEADLINE)
                other.sendall(b"3")
                assert other.recv(1) == b"3"
                other.shutdown(socket.SHUT_WR)
                assert other.recv(1) == b""
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((LOOPBACK, first))
    log = row.mesh["a"].log.read_text()
    assert log.count("Address already in use") == 1


def echo(connection: socket.socket) -> None:
    """Everything comes back, and then its end."""
    while data := connection.recv(65536):
        connection.sendall(data)


def test_what_a_command_exposes_and_forwards_lives_as_long_as_it(row: Row) -> None:
    """Each says what it does; a page of a program at c is at a port of a until the commands end."""
    with serving(web) as port:
        at = free_port()
        row.configure("c", "")
        commands = [
            gmesh(row.state("c"), "expose", f"tcp:{LOOPBACK}:{port}", "--service", "page"),
            gmesh(row.state("a"), "forward", f"tcp:{at}", "c:page"),
        ]
        processes = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in commands]
        try:
            lines = [process.stdout.readline() for process in processes if process.stdout is not None]
            assert lines == [
                f"exposing tcp:{LOOPBACK}:{port} as page; ^C ends it\n",
                f"forwarding tcp:{at}:interface={LOOPBACK} to c:page; ^C ends it\n",
            ]
            found = row.run(needs("curl"), "-sS", "-m", str(DEADLINE), f"http://{LOOPBACK}:{at}/")
            assert found.stdout == b"hello"
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=DEADLINE)
        assert [process.returncode for process in processes] == [130, 130]
        for name, path in (("c", "/v1/exposures"), ("a", "/v1/forwards")):
            row.mesh.wait(
                lambda name=name, path=path: all(each["lasting"] for each in row.mesh[name].ask("GET", path))
            )
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, at))


def asked_for(row: Row, name: str, path: str) -> list[object]:
    """What programs have asked for there."""
    return [each for each in row.mesh[name].ask("GET", path) if not each["lasting"]]


def test_streams_are_listed(row: Row) -> None:
    """At both ends, with who, which way and how much."""
    with serving(drain) as port:
        expose(row, ("word", f"tcp:{LOOPBACK}:{port}", ""))
        process = subprocess.Popen(
            gmesh(row.state("a"), "connect", "c", "word"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.read(4) == b"word"
        for name, peer, way in (("a", "c", "out"), ("c", "a", "in")):
            [found] = json.loads(row.run(*gmesh(row.state(name), "streams", "--json")).stdout)
            assert (found["peer"], found["service"], found["direction"], found["state"]) == (
                peer,
                "word",
                way,
                "open",
            )
            assert {"id", "node_id", "sent", "received", "age"} <= found.keys()
            table = row.run(*gmesh(row.state(name), "streams")).stdout.decode().splitlines()
            assert table[0].split()[:2] == ["ID", "PEER"]
            assert table[1].split()[1] == peer
        process.communicate(timeout=DEADLINE)


def test_bench_measures_both_ways_and_only_one_run_at_a_time(row: Row) -> None:
    """Figures that can be true; another run meanwhile is told to wait."""
    began = time.monotonic()
    found = row.run(*gmesh(row.state("a"), "bench", "c", "--seconds", "1", "--streams", "2", "--json"))
    took = time.monotonic() - began
    assert (found.returncode, found.stderr) == (0, b"")
    result = json.loads(found.stdout)
    assert result["node"] == "c" and result["streams"] == 2
    assert result["rtt_ms"] > 0 and result["open_ms"] > 0
    for way in ("up", "down"):
        assert result[way]["bytes"] > 1_000_000
        assert 0.9 < result[way]["seconds"] < took
    told = row.run(*gmesh(row.state("a"), "bench", "c", "--seconds", "0.5"))
    assert told.returncode == 0
    assert re.search(rb"^to c: +\d+\.\d MB/s", told.stdout, re.M)
    row.mesh.wait(lambda: row.mesh["a"].ask("GET", "/v1/streams") == [])
    with subprocess.Popen(
        gmesh(row.state("a"), "bench", "c", "--seconds", "60"), stdout=subprocess.PIPE
    ) as first:
        row.mesh.wait(lambda: row.mesh["a"].ask("GET", "/v1/streams") != [])
        second = row.run(*gmesh(row.state("a"), "bench", "c", "--seconds", "1"))
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=DEADLINE)
    assert (second.returncode, b"busy" in second.stderr) == (1, True)
    assert first.returncode == 130


def test_a_killed_daemon_is_a_reset(row: Row) -> None:
    """Never an end: the program at the other side of a forward reads connection reset."""
    at = free_port()
    with serving(drain) as port:
        expose(row, ("word", f"tcp:{LOOPBACK}:{port}", ""))
        row.configure("a", f'[[forward]]\nlisten = "tcp:{at}"\nto = "c:word"\n')
        row.mesh.wait(lambda: len(row.mesh["a"].ask("GET", "/v1/forwards")) == 1)
        with socket.create_connection((LOOPBACK, at)) as connection:
            connection.settimeout(DEADLINE)
            assert connection.recv(4) == b"word"
            row.mesh["a"].kill()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        row.mesh["a"].start()
        row.mesh.wait(lambda: row.mesh["a"].reaches("c"))
