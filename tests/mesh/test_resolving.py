# SPDX-License-Identifier: MIT
"""Names that no server ever answers hold up nothing but themselves."""

from __future__ import annotations

import socket
import threading

import pytest
import pytest_twisted
from mesh.sockets_world import RealWorld, tcp, until
from twisted.internet import reactor
from twisted.internet.error import DNSLookupError
from twisted.internet.threads import deferToThread

from gmesh.mesh.carriers import Carriers
from gmesh.mesh.limits import NAMES_AT_ONCE, TOLD_NAMES_AT_ONCE
from gmesh.mesh.resolving import WAITING, NamesApart
from gmesh.mesh.tls import TlsTrust
from gmesh.trust.address_scope import Scope, ShunnedHosts


@pytest_twisted.async_yield_fixture
async def world():
    world = RealWorld()
    yield world
    await world.finish()


class Names:
    """A resolver of the system whose server answers for localhost alone until it is let go."""

    def __init__(self):
        self.asked, self.free = [], threading.Event()
        self.robins: dict[str, list[str]] = {}

    def look_up(self, host, *rest):
        if host == "localhost":
            return socket.getaddrinfo(host, *rest)
        if host == "unknown.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host in self.robins:
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, (address, rest[0])) for address in self.robins[host]]
        self.asked.append(host)
        self.free.wait(600)
        raise socket.gaierror(socket.EAI_NONAME, "never found")


@pytest.fixture
def carriers(monkeypatch):
    names = Names()
    made = Carriers(reactor, TlsTrust)
    triggers = []
    for attribute, threads in (("_own_names", NAMES_AT_ONCE), ("_told_names", TOLD_NAMES_AT_ONCE)):
        apart = NamesApart(reactor, threads, names.look_up)
        apart._reactor = type("Stops", (), {"addSystemEventTrigger": lambda *_: triggers.append(1)})()
        setattr(made, attribute, apart)
    yield made, names
    names.free.set()
    for apart in (made._own_names, made._told_names):
        if apart._pool.started:
            apart._pool.stop()


async def test_names_that_are_never_answered_hold_up_no_other_dial(world, carriers):
    """Others told of twenty; an anchor of the genesis, an address and other work in threads go on at once."""
    made, names = carriers
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    told = [
        made.endpoint(f"hole-{number}.invalid:1", ShunnedHosts((), Scope.PRIVATE)).connect(None)
        for number in range(20)
    ]
    for each in told:
        each.addErrback(lambda failure: None)
    await until(lambda: len(names.asked) == TOLD_NAMES_AT_ONCE)
    for target in (f"localhost:{host.port}", f"127.0.0.1:{host.port}"):
        noise = await made.endpoint(target).connect(one.mesh.dialling())
        await until(lambda: one.link(two) and two.link(one))
        noise.lose()
        await until(lambda: not one.neighbours.sessions and not two.neighbours.sessions)
    assert await deferToThread(lambda: "done") == "done"
    for each in told:
        each.cancel()
    assert len(names.asked) == TOLD_NAMES_AT_ONCE
    assert made._told_names._begun == WAITING * TOLD_NAMES_AT_ONCE
    names.free.set()
    await until(lambda: made._told_names._begun == 0)


async def test_an_address_is_dialled_though_every_thread_waits_for_a_name(world, carriers):
    """Also when the names are those of the genesis."""
    made, names = carriers
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    holes = [made.endpoint(f"hole-{number}.invalid:1").connect(None) for number in range(NAMES_AT_ONCE + 3)]
    for each in holes:
        each.addErrback(lambda failure: None)
    await until(lambda: len(names.asked) == NAMES_AT_ONCE)
    noise = await made.endpoint(f"127.0.0.1:{host.port}").connect(one.mesh.dialling())
    await until(lambda: one.link(two) and two.link(one))
    noise.lose()
    for each in holes:
        each.cancel()


async def test_a_name_that_is_not_known_fails_alone(world, carriers):
    """The link of before stands, and the next dial is made."""
    made, _ = carriers
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    await made.endpoint(f"localhost:{host.port}").connect(one.mesh.dialling())
    await until(lambda: one.link(two) and two.link(one))
    link = one.link(two)
    for _ in range(NAMES_AT_ONCE + 3):
        with pytest.raises(DNSLookupError):
            await made.endpoint("unknown.invalid:1").connect(world.node("three").mesh.dialling())
    assert one.link(two) is link


async def test_a_name_with_dead_members_leads_to_the_one_that_lives(world, carriers):
    """Two refuse and one takes no connection: the last of the four is reached by one dial."""
    made, names = carriers
    one, two = world.node("one"), world.node("two")
    host = await world.listen(two, tcp())
    with socket.socket() as silent, socket.socket() as queued:
        silent.bind(("127.0.0.4", host.port))
        silent.listen(0)
        queued.connect(("127.0.0.4", host.port))  # its queue is full: who comes next waits
        names.robins["robin.invalid"] = ["127.0.0.2", "127.0.0.4", "127.0.0.3", "127.0.0.1"]
        await made.endpoint(f"robin.invalid:{host.port}").connect(one.mesh.dialling())
        await until(lambda: one.link(two) and two.link(one))
