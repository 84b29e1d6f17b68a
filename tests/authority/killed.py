# SPDX-License-Identifier: MIT
"""An authority in a process of its own, which tells what it has acknowledged until it is killed."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from authority.network import Member, Network
from authority.state_files import START, Keys

from gmesh.authority.rate_limit import RateLimits, RequestRate
from gmesh.authority.restore import Evidence, Restored, restore
from gmesh.trust.documents import Certificate, parse_document
from gmesh.trust.keys import NoiseKey, SigningKey

FREE = RequestRate(10**9, 1e9)
FIRST_KEYS = 5
"""Of L{Keys}: those of the network itself."""
ROUND_SECONDS = 100
KINDS = ("crl", "policy", "status")
STEPS = frozenset({"os.rename", "os.remove", "open", "sqlite3.connect", "shutil.copyfile"})
"""Audit events (PEP 578) before each of which a process can be made to die, if they may change a file."""


class FleetKeys(Keys):
    """The network's own keys are the same each time, those of others never."""

    def _seed(self) -> bytes:
        seed = super()._seed()
        return seed if self._made <= FIRST_KEYS else os.urandom(32)


class Continued(Network):
    """The authority of a state directory, started in a later round."""

    def __init__(self, path: Path, round_: int) -> None:
        self.round = round_
        super().__init__(path, RateLimits(FREE, FREE, FREE))

    def make_keys(self) -> Keys:
        return FleetKeys()

    def entropy(self, size: int) -> bytes:
        return os.urandom(size)

    def wall(self) -> float:
        return super().wall() + self.round * ROUND_SECONDS

    def known(self, node: bytes, noise: bytes, certificate: bytes) -> Member:
        """A member of an earlier round."""
        member = self.member(self.keys.signing())
        member.node, member.noise = SigningKey.from_pem(node), NoiseKey.from_private(noise)
        member.certificate = parse_document(certificate, Certificate)
        return member

    def keep_files(self) -> None:
        """As a node holds them."""
        for kind in KINDS:
            (self.path.parent / f"{kind}.json").write_bytes(self.ask("GET", f"/{kind}").body)


def restore_again(path: Path, now: int) -> Restored:
    """From the newest backup, with the files of L{Continued.keep_files}."""
    crl, policy, status = (path.parent / f"{kind}.json" for kind in KINDS)
    backup = max((path / "backups").glob("*.sqlite"))
    return restore(path, backup, now, [crl], [policy], evidence=Evidence([status]))


def die_before(step: int) -> None:
    """Be killed before so many-th of L{STEPS} from now on."""
    left = [step]

    def count(event: str, arguments: Any) -> None:
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS and not reads:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


class Victim:
    """Does one thing after another; tells what it begins, and what was acknowledged."""

    def __init__(self, network: Continued, tell: Connection, seed: int) -> None:
        self.network = network
        self.tell = tell
        self.chance = random.Random(seed)
        self.members: list[Member] = []

    def run(self) -> None:
        acts: list[Callable[[], None]] = [self.join, self.join, self.renew, self.revoke, self.restore]
        self.join()
        self.back_up()
        while True:
            self.chance.choice(acts)()
            self.network.clock.advance(1)

    def issued(self, member: Member) -> None:
        assert member.certificate is not None
        self.members.append(member)
        certificate = member.certificate.encode()
        self.tell.send(("issued", member.node.to_pem(), member.noise.private, certificate))

    def join(self) -> None:
        self.tell.send(("begins", "join"))
        self.issued(self.network.joined(f"pump-{self.chance.randrange(2**60)}"))

    def renew(self) -> None:
        member = self.chance.choice(self.members) if self.members else None
        if member is None:
            return
        self.network.clock.advance(1)
        self.tell.send(("begins", "renew", member.node.key_id))
        member.noise = self.network.keys.noise()
        answer = self.network.renew(member)
        if answer.status == 201:
            self.members.remove(member)
            data = answer.body[len(b'{"certificate":') : -1]
            member.certificate = parse_document(data, Certificate)
            self.issued(member)
        else:
            assert answer.status == 429, answer.body

    def revoke(self) -> None:
        if self.members:
            member = self.members.pop()
            self.tell.send(("begins", "revoke", member.node.key_id))
            answer = self.network.admin("POST", "/admin/revocations", {"key": member.node.key_id})
            assert answer.status == 201, answer.body
            self.tell.send(("revoked", member.node.key_id))

    def back_up(self) -> None:
        self.tell.send(("begins", "backup"))
        assert self.network.admin("POST", "/admin/backup").status == 201

    def restore(self) -> None:
        network = self.network
        network.clock.advance(2)
        network.keep_files()
        self.tell.send(("begins", "restore"))
        network.stop()
        network.clock.advance(1)
        restore_again(network.path, network.now)
        network.clock.advance(1)
        network.start()
        self.members = [member for member in self.members if network.heartbeat(member).status == 200]


def run_victim(path: Path, round_: int, tell: Connection) -> None:
    """Until somebody kills it."""
    Victim(Continued(path, round_), tell, round_).run()


def run_restore(path: Path, round_: int, step: int) -> None:
    """One restore, which is killed before so many-th step, if it has as many."""
    die_before(step)
    restore_again(path, START + round_ * ROUND_SECONDS + 60)
