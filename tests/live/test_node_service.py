# SPDX-License-Identifier: MIT
"""C{twistd gmesh-node} in the hands of a service manager: notify, sockets, journal, reload, drain."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from live.node_rig import ANSWER, LISTEN, LocalConnection, ask, listening_port, until
from prometheus_client.parser import text_string_to_metric_families

from gmesh.testing.secrecy import SecretWatch
from gmesh.testing.twistd import twistd

pytestmark = pytest.mark.live

Start = Callable[..., Any]
Enrol = Callable[..., Path]


class Manager:
    """The end of the notify socket that systemd holds; it is always read, for it has room for a few only."""

    def __init__(self, path: Path) -> None:
        self._messages: Queue[bytes] = Queue()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while message := self._socket.recv(200):
            self._messages.put(message)

    def next(self, skip: bytes = b"WATCHDOG=1") -> bytes:
        """The next message that is not C{skip}."""
        while (message := self._messages.get(timeout=ANSWER)) == skip:
            pass
        return message

    def close(self) -> None:
        """Read no more."""
        self._socket.shutdown(socket.SHUT_RD)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """The next daemons are started by it."""
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield made
    made.close()


def test_field_l6_a_life_under_a_service_manager(
    start: Start, enrol: Enrol, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY, pings, RELOADING and READY with every link kept, STOPPING, and a drain."""
    states = {name: enrol(name, "relay") for name in "ab"}
    states["c"] = enrol("c", "anchor")
    c = start("gmesh-node", "--state", states["c"], "--listen", LISTEN)
    assert manager.next() == b"READY=1"
    port = listening_port(c)
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    config = tmp_path / "a.toml"
    config.write_text(f'peer = ["127.0.0.1:{port}"]\nlisten = ["{LISTEN}"]\n')
    a = start("gmesh-node", "--state", states["a"], "--config", config)
    assert manager.next() == b"READY=1"
    for _ in range(4):
        assert manager.next(skip=b"") == b"WATCHDOG=1"
    monkeypatch.delenv("WATCHDOG_USEC")
    a.wait_for("Link to c at .* is up")
    b_port = listening_port(a)
    b = start("gmesh-node", "--state", states["b"], "--peer", f"127.0.0.1:{b_port}")
    assert manager.next() == b"READY=1"
    b.wait_for("Link to a at .* is up")
    until(lambda: len(ask(states["b"], "GET", "/v1/routes")[1]) == 2)

    before = sorted((peer["name"], peer["address"]) for peer in ask(states["a"], "GET", "/v1/peers")[1])
    config.write_text(config.read_text() + 'log_level = "info"\nadvertise = ["pump:7443"]\n')
    a.signal(signal.SIGHUP)
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.next())
    assert manager.next() == b"READY=1"

    def told() -> bool:
        nodes = {node["name"]: node for node in ask(states["c"], "GET", "/v1/nodes")[1]}
        return "pump:7443" in nodes["a"]["addresses"]

    until(told)
    after = sorted((peer["name"], peer["address"]) for peer in ask(states["a"], "GET", "/v1/peers")[1])
    assert [name for name, _ in before] == ["b", "c"]
    assert after == before, "the same connections"
    config.write_text('piers = ["x:1"]\n')
    a.signal(signal.SIGHUP)
    assert manager.next().startswith(b"RELOADING=1")
    assert manager.next() == b"READY=1"
    a.wait_for("unknown key 'piers': did you mean peer?")
    assert (
        sorted((peer["name"], peer["address"]) for peer in ask(states["a"], "GET", "/v1/peers")[1]) == before
    )

    a.stop()
    assert manager.next() == b"STOPPING=1"
    c.wait_for("a closed the link: shutdown")
    b.wait_for("a closed the link: shutdown")
    assert "is down: connection-lost" not in b.log
    until(lambda: ask(states["b"], "GET", "/v1/routes") == (200, []))


def test_a_reload_puts_into_force_what_it_can(
    start: Start, enrol: Enrol, free_port: Callable[[], int], tmp_path: Path
) -> None:
    """Ports, log format and group without a restart or a lost link; what cannot be had stays and is told."""
    states = {"a": enrol("a", "anchor"), "b": enrol("b", "client")}
    config = tmp_path / "a.toml"
    old, new = free_port(), free_port()
    settings = {"listen": [LISTEN], "metrics": [f"tcp:{old}"]}

    def reload(**changes: Any) -> None:
        settings.update(changes)
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))

    def links() -> list[tuple[str, str]]:
        return [(peer["name"], peer["address"]) for peer in ask(states["a"], "GET", "/v1/peers")[1]]

    reload()
    a = start("gmesh-node", "--state", states["a"], "--config", config)
    start("gmesh-node", "--state", states["b"], "--peer", f"127.0.0.1:{listening_port(a)}")
    a.wait_for("Link to b at .* is up")
    before = links()

    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        reload(metrics=[f"tcp:{busy}"])
        a.signal(signal.SIGHUP)
        a.wait_for(f"metrics stays what it was: cannot listen on tcp:{busy}:.*: Address already in use")
    assert scraped(old)
    reload(metrics=[f"tcp:{new}"], log_format="json", read_group=str(os.getegid()), listen=[])
    a.signal(signal.SIGHUP)
    a.wait_for(rf'"message":"metrics on tcp:{new}"')
    a.wait_for("listening no more on")
    assert scraped(new)
    with pytest.raises(ConnectionRefusedError):
        scraped(old)
    assert links() == before, "the same connection"
    assert ask(states["a"], "GET", "/v1/doctor")[1]["listen"] == []
    reload(log_format="text", stub=True)
    a.signal(signal.SIGHUP)
    a.wait_for(r"#warn\] reload: stub stays what it was at the start: restart the node to change it")


def scraped(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


WITH_SOCKETS = """
import os, socket
mesh = socket.create_server(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX)
local.bind({path!r})
local.listen()
print("the manager listens on", mesh.getsockname()[1], flush=True)
for number, made in enumerate((mesh, local), 3):
    os.dup2(made.fileno(), number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="mesh:api")
"""


def test_sockets_of_the_service_manager(start: Start, enrol: Enrol, tmp_path: Path) -> None:
    """Mesh and local API on sockets that systemd made: a neighbour links, and the caller is known."""
    states = {"a": enrol("a", "anchor"), "b": enrol("b", "client")}
    path = tmp_path / "given.sock"
    program = twistd(WITH_SOCKETS.format(path=str(path)))
    endpoints = ("--listen", "systemd:domain=INET:index=0", "--control", "systemd:domain=UNIX:index=1")
    groups = ("--read-group", "61001", "--write-group", "61001")
    a = start("gmesh-node", "--state", states["a"], *endpoints, *groups, program=program)
    line = a.wait_for("the manager listens on")
    port = int(a.log.splitlines()[line - 1].rpartition(" ")[2])
    start("gmesh-node", "--state", states["b"], "--peer", f"127.0.0.1:{port}")
    a.wait_for("Link to b at .* is up")
    connection = LocalConnection(path)
    connection.request("GET", "/v1/peers")
    assert [peer["name"] for peer in json.loads(connection.getresponse().read())] == ["b"]
    connection.close()


def test_a_socket_that_was_not_given(start: Start, enrol: Enrol) -> None:
    """One line that says who did not do what."""
    daemon = start("gmesh-node", "--state", enrol("a", "anchor"), "--listen", "systemd:domain=INET:index=0")
    assert daemon.wait() == 1
    assert "is not an endpoint to listen on: the service manager passed no such socket" in daemon.log
    assert "Traceback" not in daemon.log


CANARY = b"canary 5d0c: the valve stands at 42 per cent, open"


def test_field_t1_json_for_the_journal_and_metrics(
    start: Start, enrol: Enrol, tmp_path: Path, secrets: SecretWatch
) -> None:
    """Each line is its priority and an object; a message leaves no trace in it, but moves the numbers."""
    secrets.add(CANARY)
    journal = tmp_path / "journal"
    under = f"""
import os, sys
journal = os.open({str(journal)!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
os.dup2(journal, 1)
found = os.fstat(1)
os.environ["JOURNAL_STREAM"] = f"{{found.st_dev}}:{{found.st_ino}}"
"""
    program = twistd(under)
    state = enrol("a", "anchor")
    options = ("--log-format", "json", "--metrics", "tcp:0", "--listen", LISTEN)
    a = start("gmesh-node", "--state", state, *options, program=program)

    def lines() -> list[dict[str, Any]]:
        text = journal.read_text() if journal.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        assert all(re.match(r"<[2-7]>\{", line) for line in whole)
        return [json.loads(line[3:]) for line in whole]

    def port_of(purpose: str) -> str:
        told = [
            line["fields"]["address"] for line in lines() if line.get("fields", {}).get("purpose") == purpose
        ]
        return str(told[0]).removeprefix("tcp:") if told else ""

    until(lambda: bool(port_of("metrics") and port_of("local API")))
    assert lines()[0]["message"].startswith("twistd "), "from the first line on"
    reader = LocalConnection(state / "node.sock")
    reader.request("GET", "/v1/receive?service=log")
    stream = reader.getresponse()
    body = {"node": "a", "service": "log", "data": base64.b64encode(CANARY).decode()}
    code, _ = ask(state, "POST", "/v1/send", body)
    if code == 200:
        assert base64.b64decode(json.loads(stream.readline())["data"]) == CANARY
    reader.close()

    with socket.create_connection(("127.0.0.1", int(port_of("metrics"))), timeout=ANSWER) as scrape:
        scrape.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = b"".join(iter(lambda: scrape.recv(65536), b""))
    with socket.create_connection(("127.0.0.1", int(port_of("metrics"))), timeout=ANSWER) as flood:
        flood.sendall(b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        assert flood.recv(100).startswith(b"HTTP/1.1 413 "), "nothing is kept of a body"
    head, _, text = page.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200") or head.startswith(b"HTTP/1.1 200")
    found = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"gmesh_node_links", "gmesh_node_certificate_seconds_left", "process_cpu_seconds"} <= found
    listening = {
        row.split()[1] for row in Path("/proc/net/tcp").read_text().splitlines()[1:] if row.split()[3] == "0A"
    }
    assert f"0100007F:{int(port_of('metrics')):04X}" in listening, "loopback alone"
    a.stop()
    assert not secrets.finds(journal.read_text())
    assert lines()[-1]["message"] == "Server Shut Down."


def test_a_wrong_key_ends_the_start(start: Start, enrol: Enrol, tmp_path: Path) -> None:
    """With the key that was meant; --check finds it too, and says so when all is well."""
    state, config = enrol("a", "anchor"), tmp_path / "node.toml"
    config.write_text('metrisc = ["tcp:1"]\n')
    for more in ((), ("--check",)):
        daemon = start("gmesh-node", "--state", state, "--config", config, *more)
        assert daemon.wait() == 1
        assert "unknown key 'metrisc': did you mean metrics?" in daemon.log
        assert "Traceback" not in daemon.log
    config.write_text('metrics = ["tcp:1"]\nlog-format = "json"\n')
    daemon = start("gmesh-node", "--state", state, "--config", config, "--check")
    assert daemon.wait() == 0
    assert daemon.log == f"gmesh-node: {state} and its configuration are good: a may start"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for others too: what C{tmp_path} is in, every pytest that starts closes to them."""
    with TemporaryDirectory(prefix="gmesh-") as directory:
        yield Path(directory)


ASK_AS_SOMEBODY_ELSE = """
import http.client, json, os, socket, sys
os.setgroups([61001])
os.setgid(61003)
os.setuid(61003)
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/v1/status")
answer = connection.getresponse()
answer.read()
connection.request("POST", "/v1/ping", '{"node": "a"}')
refused = connection.getresponse()
print(json.dumps([answer.status, refused.status, json.loads(refused.read())["detail"]]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_groups_of_a_real_daemon(place: Path, start: Start, enrol: Enrol) -> None:
    """Who is in neither group is refused with the reason, by the daemon as it runs."""
    state = enrol("a", "anchor")
    place.chmod(0o755)
    socket_path = place / "api.sock"
    options = ("--control", f"unix:{socket_path}", "--read-group", "61001", "--write-group", "61002")
    daemon = start("gmesh-node", "--state", state, *options)
    daemon.wait_for("local API on unix:")
    assert (socket_path.stat().st_mode & 0o777, socket_path.stat().st_gid) == (0o660, 61001)
    asked = subprocess.run(
        [sys.executable, "-c", ASK_AS_SOMEBODY_ELSE, socket_path],
        capture_output=True,
        text=True,
        timeout=ANSWER,
        check=True,
    )
    right = "uid 61003 may not write here: that takes the group 61002"
    assert json.loads(asked.stdout) == [200, 403, right]
