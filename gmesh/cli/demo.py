# SPDX-License-Identifier: MIT
"""
C{gmesh demo}: a whole mesh on this machine, as its users will meet it, in a few seconds.

An authority and three nodes run as real daemons; this module is their operator and their two
applications, and uses the same code as the commands C{init}, C{admin}, C{join}, C{send} and C{receive}.
Tests: C{tests/live/test_demo.py}.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from gmesh.cli.authority import RemoteAuthority
from gmesh.cli.demo_daemons import DaemonFailed, Daemons
from gmesh.cli.demo_nodes import Nodes, answers, next_message
from gmesh.cli.http import Endpoint, HttpRefused
from gmesh.cli.init import anchor_endpoint, create_network
from gmesh.cli.join import enrol
from gmesh.cli.operator import OperatorClient
from gmesh.cli.output import milliseconds, printable
from gmesh.cli.path_picture import Spot, draw, glyphs
from gmesh.trust.documents import Anchor
from gmesh.trust.invite import Invite

__all__ = ["Demo", "demo"]

ROLES = {"a": "client", "b": "anchor", "c": "client"}
QUESTION = "What does the pump say?"
ANSWER = "4.2 bar, all is well."
STOPPERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Demo:
    """
    The demonstration.

    @param directory: for everything it makes.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemons = Daemons(directory)
        self.nodes = Nodes({name: Endpoint(f"unix:{directory / name / 'node.sock'}") for name in ROLES})
        self.url = ""
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """One step has happened."""
        click.echo(f"{click.style(f'{time.monotonic() - self._began:5.2f} s', dim=True)}  {text}")

    def create(self) -> int:
        """Make the network. @return: the port that b will listen on."""
        authority, anchor = self.daemons.port(), self.daemons.port()
        self.url = f"http://127.0.0.1:{authority}"
        anchors = [Anchor(name="b", endpoint=anchor_endpoint(f"127.0.0.1:{anchor}"))]
        create_network(self.directory / "net", "demo", self.url, anchors, int(time.time()))
        self.say('network "demo" made: root, authority and operator keys, a genesis signed by the root key')
        self.daemons.start(
            "authority",
            "gmesh-authority",
            "--state",
            self.directory / "net/authority",
            "--listen",
            f"tcp:{authority}:interface=127.0.0.1",
        )
        self.daemons.wait_until("the authority answers", lambda: answers(Endpoint(self.url), "/readyz"))
        self.say(f"authority runs at {self.url}")
        return anchor

    def enrol(self) -> OperatorClient:
        """Invite and enrol the three nodes. @return: who may revoke them."""
        operator = OperatorClient(self.directory / "net/operator")
        for name, role in ROLES.items():
            invite = operator.invite(name, [role], 600)[0]
            state = self.directory / name
            state.mkdir(mode=0o700)
            certificate = enrol(Invite.parse(invite), state, RemoteAuthority([self.url]))
            self.say(f"{_bold(name)} enrolled as {role}: its own keys, certificate {certificate.body.serial}")
        return operator

    def start_nodes(self, port: int) -> None:
        """Start b, then a and c, and wait until they have found each other."""
        self._start_node("b", "--listen", f"tcp:{port}:interface=127.0.0.1")
        self._wait_for_node("b", "and listens for others")
        for name in ("a", "c"):
            self._start_node(name)
        for name in ("a", "c"):
            self._wait_for_node(name, "and dials b only")
        for name, peers in (("b", {"a", "c"}), ("a", {"b"}), ("c", {"b"})):
            self.daemons.wait_until(f"{name} has its links", partial(self._has_links, name, peers))
        self.say("links stand: a - b and b - c, each a Noise XX session of two certificates; a never meets c")
        for source, target in (("a", "c"), ("c", "a")):
            self.daemons.wait_until(
                f"{source} knows a path to {target}", partial(self.nodes.path, source, target)
            )
        self.say(f"a has found a path to c: {' > '.join(self.nodes.path('a', 'c'))}")

    def _start_node(self, name: str, *options: str) -> None:
        self.daemons.start(name, "gmesh-node", "--state", self.directory / name, *options)

    def _wait_for_node(self, name: str, how: str) -> None:
        self.daemons.wait_until(f"{name} answers", partial(answers, self.nodes.nodes[name], "/v1/status"))
        self.say(f"{_bold(name)} runs, {how}")

    def exchange(self) -> None:
        """a asks c, c answers."""
        with self.nodes.receiver("c") as at_c, self.nodes.receiver("a") as at_a:
            for source, target, text, inbox in (("a", "c", QUESTION, at_c), ("c", "a", ANSWER, at_a)):
                rtt = self.nodes.send(source, target, text)
                message = next_message(inbox, f"{target} receives what {source} sent")
                received = base64.b64decode(message["data"]).decode()
                if (message["from"], received) != (source, text):
                    raise DaemonFailed(
                        "wrong-message", f"{target} received something else than {source} sent"
                    )
                path = " > ".join(self.nodes.path(source, target))
                self.say(f"{path}: {_bold(repr(text))} arrived, acknowledged after {milliseconds(rtt)}")

    def revoke(self, operator: OperatorClient) -> None:
        """Revoke c, and see it cut off."""
        began = time.monotonic()
        answer = operator.ask("POST", "/admin/revocations", {"node": "c", "reason": "key-compromise"})
        self.say(f"the operator revokes {_bold('c')}: CRL {answer.get('crl_number')} is signed and published")
        self.daemons.wait_until("b has cut c off", lambda: "c" not in self.nodes.peers("b"))
        self.say(f"b has cut its session with c: {_since(began)} after the operator asked for it")
        self.daemons.wait_until("a knows of it", lambda: not self.nodes.path("a", "c"))
        try:
            self.nodes.send("a", "c", QUESTION)
        except HttpRefused as error:
            self.say(f"a > c refused, {_since(began)} after: {printable(error.detail)}")
        else:
            raise DaemonFailed("not-revoked", "a message still reached c after it was revoked")

    def show_mesh(self, note_b: str) -> None:
        """The picture after the exchange."""
        path = self.nodes.path("a", "c")
        notes = {"a": "wrote it", "b": note_b, "c": "read it"}
        self._show([Spot(name, (ROLES[name], notes[name])) for name in path], path)

    def show_cut(self) -> None:
        """The picture after the revocation."""
        row = [Spot("a", ("client",)), Spot("b", ("anchor",)), Spot("c", ("revoked",))]
        self._show(row, (), {frozenset("bc")})

    def _show(self, row: list[Spot], path: Any, cut: Any = ()) -> None:
        links = {frozenset((name, peer)) for name in ("a", "b") for peer in self.nodes.peers(name)}
        click.echo()
        for line in draw(row, links, path, cut, glyphs()):
            click.echo("         " + line)
        click.echo()

    def _has_links(self, name: str, peers: set[str]) -> bool:
        return self.nodes.peers(name) == peers

    def tell_who_saw_what(self) -> None:
        """What each party could and could not see of the exchange."""
        passed = ", ".join(
            f"{' > '.join(transit['path'])} ({transit['kind']}, {transit['bytes']} bytes)"
            for transit in self.nodes.transits("b")
        )
        click.echo("Who could see what:")
        for name, *lines in (
            ("a and c", "the two messages; nobody else has the keys of their session (Noise IK)"),
            ("b", "headers only, as it says itself:", passed + "; it has no key for the rest"),
            ("authority", "nothing of them: it admits and revokes nodes, and carries no messages"),
        ):
            for index, line in enumerate(lines):
                click.echo(f"  {_bold((name if index == 0 else '').ljust(10))} {line}")
        click.echo()

    def tell_how_to_talk(self) -> None:
        """How to go on with what is left running."""
        pids = " ".join(str(daemon.process.pid) for daemon in self.daemons.all)
        page, port = self.directory / "page", self.daemons.port()
        page.mkdir()
        (page / "index.html").write_text("<h1>4.2 bar</h1>\n", encoding="utf-8")
        serve = f"python3 -m http.server -b 127.0.0.1 -d {page} {port}"
        expose = f"gmesh expose tcp:127.0.0.1:{port} --service http --state {self.directory}/c"
        click.echo(f"""\
The authority and the three nodes go on running.  Talk to them:

  export GMESH_STATE={self.directory}/a GMESH_OPERATOR={self.directory}/net/operator
  gmesh watch
  gmesh doctor
  gmesh nodes
  gmesh ping c
  gmesh receive --service chat --state {self.directory}/c &
  gmesh send c --service chat "hello"
  gmesh admin revoke c

Expose a web page on c, and open it at a:

  {serve} & {expose} &
  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | gmesh connect c http

What they log is in {self.directory}/*.log.  To end it all:

  kill {pids} $(jobs -p)
  rm -r {self.directory}""")

    def run(self, keep: bool) -> None:
        """The whole story."""
        click.echo("An authority and three nodes, as four daemons on this machine:\n")
        port = self.create()
        operator = self.enrol()
        self.start_nodes(port)
        self.exchange()
        self.show_mesh("header only")
        self.tell_who_saw_what()
        if keep:
            self.tell_how_to_talk()
            return
        self.revoke(operator)
        self.show_cut()

    def remove(self) -> None:
        """Stop every daemon and remove every file; a second ^C does not stop this."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPERS}
        self.daemons.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


def _since(began: float) -> str:
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


def _bold(text: str) -> str:
    return click.style(text, bold=True)


@contextlib.contextmanager
def _stoppable(daemons: Daemons) -> Iterator[None]:
    """
    Let SIGTERM and SIGHUP end it as ^C does: through the clean-up.

    A signal that comes while a daemon is being started waits until that one is in the list of
    those to stop, or it would outlive us.
    """

    def stop(number: int, frame: object) -> None:
        daemons.interrupt()

    before = {number: signal.signal(number, stop) for number in STOPPERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.option(
    "--keep",
    is_flag=True,
    help="Leave it running at the end, with nobody revoked, and say how to talk to it.",
)
def demo(keep: bool) -> None:
    """
    Run a whole mesh on this machine and show it work.

    An authority and three nodes in a line, a message through the middle one, which cannot read
    it, and a node cut off.  Nothing is left behind.
    """
    show = Demo(Path(tempfile.mkdtemp(prefix="gmesh-demo-")))
    with _stoppable(show.daemons):
        try:
            show.run(keep)
        except BaseException:
            show.remove()
            raise
        if not keep:
            show.remove()
            show.say("all daemons stopped, all files removed")
