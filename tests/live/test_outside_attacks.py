# SPDX-License-Identifier: MIT
"""
Ten minutes of each attack by a member written from docs/protocol alone, on real daemons of its own.

A row for each is printed: what the attacked relay spent, how much it grew, what it wrote, and what the far
client did.  Honest messages through the relay go on meanwhile.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from struct import pack
from typing import Any

import pytest
from live.node_rig import LISTEN, ask, listening_port, until
from live.outside_node import E2E_DATA, E2E_INIT, LSA, PING, OutsideNode, handle

from gmesh.testing.issuer import Issuer

pytestmark = [pytest.mark.live, pytest.mark.soak]

SECONDS = 600
RATE = 1_000
"""Frames a second."""
CERT, SYNC_WANT, CRL, PATH_REQ = 22, 20, 32, 48
CORE = 0.25
"""Of a processor: a fifth for control frames of one neighbour (CONTROL_RATE), and what honest ones cost."""
GROWTH = 16 * 1024
"""KiB of memory."""
LOG = 20_000 + 1_000_000 * SECONDS // 86_400
"""Bytes: what comes at once, and a megabyte a day."""
TICKS = os.sysconf("SC_CLK_TCK")


def cpu(process: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(process: int) -> int:
    """KiB of it that are resident."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def pings(outside: OutsideNode, target: bytes, number: int) -> None:
    outside.send(PING, pack(">QQ", number, number))


def questions(outside: OutsideNode, target: bytes, number: int) -> None:
    outside.send(PATH_REQ, pack(">I", number & 0xFFFFFFFF) + target + b"\0")


def junk_records(outside: OutsideNode, target: bytes, number: int) -> None:
    outside.send(LSA, pack(">HH", 1, 200) + number.to_bytes(200, "big"))


def junk_certificates(outside: OutsideNode, target: bytes, number: int) -> None:
    outside.send(CERT, pack(">BH", 1, 200) + b"{}" * 100)


def made_up_crls(outside: OutsideNode, target: bytes, number: int) -> None:
    outside.send(CRL, pack(">Q", 2**40 + number) + number.to_bytes(32, "big") + pack(">II", 200_000, 0))


def forged_handshakes(outside: OutsideNode, target: bytes, number: int) -> None:
    path = handle(outside.certificate) + handle(outside.neighbour) + target
    outside.send(E2E_INIT, bytes([0, 1, 0, 3]) + path + pack(">IQ", 0, 2**62 + number) + bytes(200))


def junk_data(outside: OutsideNode, target: bytes, number: int) -> None:
    path = handle(outside.certificate) + handle(outside.neighbour) + target
    outside.send(E2E_DATA, bytes([0, 1, 0, 3]) + path + pack(">IQ", 7, number) + bytes(1000))


def malformed(outside: OutsideNode, target: bytes, number: int) -> None:
    outside.send(SYNC_WANT, b"no list")


Attack = Callable[[OutsideNode, bytes, int], None]
ATTACKS: dict[str, Attack] = {
    "pings": pings,
    "questions": questions,
    "junk records": junk_records,
    "junk certificates": junk_certificates,
    "CRLs that nobody made": made_up_crls,
    "forged handshakes": forged_handshakes,
    "junk data": junk_data,
    "malformed frames": malformed,
}


@dataclass
class Scene:
    """The relay b, the clients v and c at it, and the attacker m."""

    attack: Attack
    states: dict[str, Path]
    daemons: dict[str, Any]
    attacker: OutsideNode
    port: int
    to: str
    sent: int = 0
    links: int = 0
    answers: list[int] = field(default_factory=list)

    def say(self) -> int:
        """A message from v to c. @return: how it is answered."""
        return ask(self.states["v"], "POST", "/v1/send", {"node": self.to, "service": "log", "data": "aGk="})[
            0
        ]

    def attack_until(self, end: float) -> None:
        """At a steady rate; whoever hangs up is dialled again after a second."""
        target = handle(OutsideNode(self.states["c"], self.attacker.suite).certificate)
        while time.monotonic() < end:
            with suppress(AssertionError, OSError):
                self.attacker.connect(("127.0.0.1", self.port))
                self.links += 1
                began, number = time.monotonic(), 0
                while time.monotonic() < end:
                    number += 1
                    self.sent += 1
                    self.attack(self.attacker, target, self.sent)
                    ahead = number / RATE - (time.monotonic() - began)
                    while select([self.attacker.socket], [], [], max(ahead, 0.0))[0]:
                        self.attacker.take()
                        self.attacker.seen.clear()
                        ahead = 0.0
            with suppress(OSError):
                self.attacker.close()
            threading.Event().wait(1.0)

    def talk_until(self, end: float) -> None:
        """One acknowledged message a second from v to c."""
        while time.monotonic() < end:
            self.answers.append(self.say())
            threading.Event().wait(1.0)


def receive(state: Path, end: float) -> None:
    """Take what comes to c."""
    with socket.socket(socket.AF_UNIX) as taken:
        taken.connect(str(state / "node.sock"))
        taken.sendall(b"GET /v1/receive?service=log HTTP/1.1\r\nHost: c\r\n\r\n")
        taken.settimeout(1.0)
        while time.monotonic() < end + 5:
            with suppress(TimeoutError):
                taken.recv(65_536)


def test_ten_minutes_of_each_attack_cost_its_neighbour_what_the_manual_says(
    start: Callable[..., Any], enrol: Callable[..., Path], issuer: Issuer
) -> None:
    """Side by side, each with three daemons of its own."""
    scenes: dict[str, Scene] = {}
    for number, (name, attack) in enumerate(ATTACKS.items()):
        states = {
            role: enrol(f"{role}{number}", kind)
            for role, kind in (("b", "anchor"), ("v", "client"), ("c", "client"), ("m", "client"))
        }
        daemons = {"b": start("gmesh-node", "--state", states["b"], "--listen", LISTEN)}
        port = listening_port(daemons["b"])
        for role in ("v", "c"):
            daemons[role] = start("gmesh-node", "--state", states[role], "--peer", f"127.0.0.1:{port}")
        attacker = OutsideNode(states["m"], issuer.genesis.body.suites[0])
        scenes[name] = Scene(attack, states, daemons, attacker, port, f"c{number}")
    end = time.monotonic() + 60 + SECONDS
    threads = [threading.Thread(target=receive, args=[scene.states["c"], end]) for scene in scenes.values()]
    for scene, thread in zip(scenes.values(), threads, strict=True):
        until(lambda scene=scene: len(ask(scene.states["v"], "GET", "/v1/routes")[1]) == 2)
        thread.start()
        until(lambda scene=scene: scene.say() == 200)
    before = {name: figures(scene) for name, scene in scenes.items()}
    end = time.monotonic() + SECONDS
    for scene in scenes.values():
        for work in (scene.attack_until, scene.talk_until):
            threads.append(threading.Thread(target=work, args=[end]))
            threads[-1].start()
    for thread in threads[len(scenes) :]:
        thread.join()
    wrong = []
    for name, scene in scenes.items():
        spent, grown, written, far = (
            now - then for now, then in zip(figures(scene), before[name], strict=True)
        )
        row = (
            f"{name:22} frames {scene.sent:7}, links {scene.links:4}: relay {spent / SECONDS:6.1%} of a core,"
            f" {grown:6} KiB, log {written:6} B; far client {far / SECONDS:6.1%};"
            f" {scene.answers.count(200)} of {len(scene.answers)} messages arrived"
        )
        print(row)  # noqa: T201  # the table is what it is run for
        if spent > CORE * SECONDS or grown > GROWTH or written > LOG or set(scene.answers) != {200}:
            wrong.append(row)
    for thread in threads[: len(scenes)]:
        thread.join()
    assert wrong == []


def figures(scene: Scene) -> tuple[float, int, int, float]:
    """Of the relay: processor time, memory, log; processor time of the far client."""
    b = scene.daemons["b"]
    return (
        cpu(b.process.pid),
        memory(b.process.pid),
        len(b.log),
        cpu(scene.daemons["c"].process.pid),
    )
