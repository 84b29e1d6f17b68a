# SPDX-License-Identifier: MIT
"""The authority as a real twistd process on loopback: start, refuse to start, race, flood, kill."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import selectors
import signal
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from authority import state_files
from live.authority_rig import DEADLINE, AuthorityProcess, Fleet, check_invariants
from prometheus_client.parser import text_string_to_metric_families

from gmesh.trust.documents import Certificate, parse_document
from gmesh.trust.keys import SigningKey

pytestmark = pytest.mark.live

DAY_USEC = 86400 * 10**6


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A state directory with a daemon that is not started yet; ended after the test."""
    keys = state_files.Keys()
    policy = {**state_files.POLICY_TEXT, "max_nodes": 100_000}
    genesis = state_files.write_state(tmp_path / "authority", keys, int(time.time()) - 60, policy)
    daemon = AuthorityProcess(
        tmp_path / "authority", "--rate", "100000000", "--key-rate", "100000000", "--failure-rate", "1000000",
        "--connections", "0",
    )  # fmt: skip
    yield Fleet(daemon, keys, genesis)
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait(DEADLINE)


def test_starts_answers_and_stops_cleanly(fleet: Fleet) -> None:
    """The daemon answers, is ready, and SIGTERM ends it without a word of complaint."""
    fleet.daemon.start()
    assert fleet.daemon.ask("GET", "/readyz") == (200, {"status": "ready"})
    assert fleet.daemon.ask("GET", "/genesis")[1] == fleet.genesis.as_dict()
    for wrong in ("/genesis/%2e%2e%2f", "/../../etc/passwd", "/genesis/..%2f..%2fx"):
        assert fleet.daemon.ask("GET", wrong)[0] == 404
    invite = fleet.invite("pump-1")
    assert fleet.daemon.ask("POST", "/join", *fleet.join_request(invite))[0] == 201
    assert fleet.daemon.end() == -signal.SIGTERM
    log = fleet.daemon.log.read_text()
    assert "Traceback" not in log and "Unhandled" not in log, log


def test_json_lines_of_the_log(fleet: Fleet) -> None:
    """Every line is an object, and a refusal's carries the reason and the request id of its answer."""
    fleet.daemon.options += ("--log-format", "json")
    fleet.daemon.start()
    code, problem = fleet.daemon.ask("POST", "/admin/invites", {"Content-Type": "application/json"}, b"{}")
    assert (code, problem["type"]) == (401, "urn:gmesh:problem:unsigned")
    assert fleet.daemon.end() == -signal.SIGTERM
    lines = [json.loads(line) for line in fleet.daemon.log.read_text().splitlines()]
    assert lines[0]["message"].startswith("twistd "), "from the first line on"
    told = [line for line in lines if problem["request_id"] in line["message"]]
    assert len(told) == 1 and "401 unsigned" in told[0]["message"] and told[0]["level"] == "info"


def test_an_unknown_log_format_is_wrong_usage(fleet: Fleet) -> None:
    """The daemon does not start, and says which there are."""
    fleet.daemon.options += ("--log-format", "xml")
    assert fleet.daemon.spawn().wait(DEADLINE) == 1
    assert "'xml' is not a log format: there are text, json" in fleet.daemon.log.read_text()


def test_the_options_that_bound_strangers(fleet: Fleet) -> None:
    """--failure-rate, --connections and --trusted-proxy count in the daemon as they do in its parts."""
    fleet.daemon.options = ("--failure-rate", "1/2", "--connections", "2", "--trusted-proxy", "127.0.0.1")
    fleet.daemon.start()
    unknown = replace(fleet.invite("pump-1"), seed=bytes(32))

    def guess(address: str) -> int:
        headers, body = fleet.join_request(unknown)
        return fleet.daemon.ask("POST", "/join", headers | {"X-Forwarded-For": address}, body)[0]

    assert [guess(f"198.51.100.{number}") for number in range(4)] == [403] * 4
    assert [guess("198.51.100.9") for _ in range(3)] == [403, 403, 429]
    with contextlib.ExitStack() as held:  # a proxy may hold more connections than the bound
        for _ in range(4):
            held.enter_context(socket.create_connection(("127.0.0.1", fleet.daemon.port)))
        assert fleet.daemon.ask("GET", "/healthz")[0] == 200
    assert fleet.daemon.end() == -signal.SIGTERM


def test_a_proxy_is_no_name(fleet: Fleet) -> None:
    """One is refused at the start, not taken for what no address will ever equal."""
    fleet.daemon.options += ("--trusted-proxy", "proxy.example")
    assert fleet.daemon.spawn().wait(DEADLINE) == 1
    assert "--trusted-proxy proxy.example: must be an IP address" in fleet.daemon.log.read_text()


def test_a_busy_port_is_one_line(fleet: Fleet) -> None:
    """A port in use ends the program with exit code 1 and says which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = fleet.daemon.refuses_to_start(taken.getsockname()[1])
        assert f"cannot listen on tcp:{taken.getsockname()[1]}:" in line


def test_one_invite_admits_one_of_sixty_four(fleet: Fleet) -> None:
    """64 hosts race for one invite, over and over: exactly one gets 201 each time."""
    fleet.daemon.start()
    with ThreadPoolExecutor(64) as pool:
        for number in range(5):
            invite = fleet.invite(f"pump-{number}")
            requests = [fleet.join_request(invite) for _ in range(64)]
            gate = threading.Barrier(64)

            def join(request: tuple[dict[str, str], bytes], gate: threading.Barrier = gate) -> int:
                gate.wait()
                return fleet.daemon.ask("POST", "/join", *request)[0]

            assert sorted(pool.map(join, requests)) == [201] + [403] * 63


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_kill_under_load_loses_nothing(fleet: Fleet, rounds: int) -> None:
    """kill -9 while hosts join: who saw 201 is a member, invite used <=> certificate <=> audit row."""
    admitted: list[int] = []
    for round_ in range(rounds):
        fleet.daemon.start()
        invites = [fleet.invite(f"pump-{round_}-{number}") for number in range(60)]
        requests = [fleet.join_request(invite) for invite in invites]

        def join(request: tuple[dict[str, str], bytes]) -> None:
            try:
                status, answer = fleet.daemon.ask("POST", "/join", *request)
            except (OSError, ValueError, http.client.HTTPException):
                return
            assert status == 201, answer
            data = json.dumps(answer["certificate"]).encode()
            admitted.append(parse_document(data, Certificate).body.serial)

        before = len(admitted)
        with ThreadPoolExecutor(16) as pool:
            jobs = [pool.submit(join, request) for request in requests]
            while len(admitted) < before + 20 and not all(job.done() for job in jobs):
                time.sleep(0.001)
            fleet.daemon.end(signal.SIGKILL)
            for job in jobs:
                job.result()
        fleet.daemon.start()
        assert fleet.daemon.end() == -signal.SIGTERM
        check_invariants(fleet.daemon.state, admitted)


def test_it_tells_the_service_manager_and_rereads_on_sighup(fleet: Fleet, tmp_path: Path) -> None:
    """READY when it listens; SIGHUP: RELOADING, the new key held, READY; STOPPING. And /metrics."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE)
        daemon = fleet.daemon
        daemon.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(DAY_USEC)}
        daemon.options = (*daemon.options, "--metrics", f"unix:{tmp_path / 'metrics'}")
        daemon.start()
        told = {manager.recv(200), manager.recv(200)}
        assert told == {b"READY=1", b"WATCHDOG=1"}
        key = daemon.state / "next.key"
        key.touch(0o600)
        key.write_bytes(SigningKey.generate().to_pem())
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        assert manager.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(200) == b"READY=1"
        daemon.logged(rb"reloaded: 2 signing keys, genesis 1")
        (daemon.state / "genesis.json").write_text("{}")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.logged(rb"not reloaded, all stays as it was: .*genesis.json")
        assert daemon.ask("GET", "/readyz")[0] == 200
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.connect(str(tmp_path / "metrics"))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            scraper.settimeout(DEADLINE)
            answer = b"".join(iter(lambda: scraper.recv(65536), b""))
        text = answer.partition(b"\r\n\r\n")[2].decode()
        names = {family.name for family in text_string_to_metric_families(text)}
        assert {"gmesh_authority_answers", "gmesh_authority_writable", "process_cpu_seconds"} <= names
        assert daemon.ask("GET", "/metrics")[0] == 404
        daemon.end()
        left = [manager.recv(200) for _ in range(3)]
        assert left[-1] == b"STOPPING=1"


def resident(daemon: AuthorityProcess) -> int:
    """Bytes of memory the daemon holds."""
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


BIG_BODIES = (
    b"POST /join HTTP/1.1\r\nHost: a\r\nContent-Length: 80000000\r\n\r\n",
    b"POST /join HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + 32 * (b"10000\r\n" + bytes(0x10000) + b"\r\n"),
)


def test_large_bodies_take_no_memory(fleet: Fleet) -> None:
    """64 at once, of 80 MB or in chunks without end: each is cut off, and less than 8 MB more is held."""
    fleet.daemon.start()

    def send(number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", fleet.daemon.port), DEADLINE) as peer:
            answer = b""
            with contextlib.suppress(OSError):
                peer.sendall(BIG_BODIES[number % 2])
                answer = peer.recv(1000)
            return answer

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(send, range(4)))
        before = resident(fleet.daemon)
        answers = list(pool.map(send, range(64)))
    assert resident(fleet.daemon) - before < 8_000_000
    assert {answer[:12] for answer in answers} <= {b"HTTP/1.1 413", b""} and any(answers)
    assert fleet.daemon.ask("GET", "/readyz")[0] == 200


BEGINNINGS = (b"GET /", b"POST /join HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")


def slow_client(port: int, number: int) -> socket.socket:
    """A connection that begins a request, each from an address of its own."""
    source = (f"127.0.{1 + number // 50}.{1 + number % 50}", 0)
    slow = socket.create_connection(("127.0.0.1", port), DEADLINE, source)
    slow.sendall(BEGINNINGS[number % 2])
    slow.setblocking(False)
    return slow


@pytest.mark.soak
def test_a_thousand_slow_sockets(fleet: Fleet) -> None:
    """1,000 connections of a byte a second: each is cut after 10 s, and good clients do not notice."""
    fleet.daemon.start()
    lives: list[float] = []
    took: list[float] = []
    opened: dict[socket.socket, float] = {}
    numbers, next_drip = iter(range(1000)), time.monotonic() + 1
    deadline = time.monotonic() + 120
    with selectors.DefaultSelector() as selector:
        while len(lives) < 1000 and time.monotonic() < deadline:
            for number in islice(numbers, 25):
                slow = slow_client(fleet.daemon.port, number)
                opened[slow] = time.monotonic()
                selector.register(slow, selectors.EVENT_READ)
            for key, _ in selector.select(0.01):
                slow = key.fileobj  # type: ignore[assignment]  # what was registered
                lives.append(time.monotonic() - opened.pop(slow))
                selector.unregister(slow)
                slow.close()
            if time.monotonic() >= next_drip:
                next_drip += 1
                for slow in opened:
                    with contextlib.suppress(OSError):
                        slow.send(b"a")
            began = time.monotonic()
            assert fleet.daemon.ask("GET", "/status")[0] == 200
            took.append(time.monotonic() - began)
    assert len(lives) == 1000
    assert min(lives) > 9
    assert statistics.median(lives) < 11 and max(lives) < 13
    assert statistics.quantiles(took, n=100)[98] < 1
    fleet.daemon.end()
