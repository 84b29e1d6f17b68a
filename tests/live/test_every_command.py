# SPDX-License-Identifier: MIT
"""
Every command of C{gmesh} against real daemons: at a terminal, in a pipe, as JSON, and used badly.

The commands are those of the tree itself: one without a case in C{command_cases} fails here.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Iterator, Sequence

import click
import pytest
from live.command_cases import CASES, Case
from live.command_rig import COLUMNS, Ended, Rig, running_rig
from live.node_rig import until

from gmesh.cli.main import gmesh

pytestmark = pytest.mark.live


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Whatever does something: the leaves of the tree, and groups that work without a sub-command."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(gmesh))
IN_JSON = [name for name, command in COMMANDS.items() if any(p.name == "as_json" for p in command.params)]
TABLES = [name for name, command in COMMANDS.items() if any(p.name == "wide" for p in command.params)]
LINES = {"receive", "watch", "expose", "forward"}
PROGRESS = {"bench"}
"""What draws how far it is on a standard error that is a terminal."""
FOLLOWED = ("peers", "routes", "status")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The mesh that all tests here share."""
    with running_rig(tmp_path_factory.mktemp("rig")) as made:
        yield made


def test_every_command_has_a_case() -> None:
    """A new command needs a case, and one that went leaves none behind."""
    assert set(CASES) == set(COMMANDS)


def _words(name: str, words: list[str]) -> list[str]:
    """The words of a command; those of a group above it come before."""
    if words[:1] == ["--operator"]:
        return ["admin", *words]
    return [*name.split(), *words]


def _run(rig: Rig, name: str, case: Case, terminal: bool, *more: str) -> Ended:
    words = _words(name, [*case.good(rig), *more])
    running = rig.start(*words, terminal=terminal, stdin=case.stdin)
    around = case.around(rig, running) if case.around is not None else contextlib.nullcontext()
    with around:
        return running.end()


def _check_good(name: str, ended: Ended) -> None:
    assert ended.status == (130 if CASES[name].interrupted else 0), (name, ended)
    assert "Traceback" not in ended.out + ended.err
    assert "\x1b" not in ended.err or name in PROGRESS


@pytest.mark.parametrize("name", CASES)
def test_at_a_terminal(rig: Rig, name: str) -> None:
    """It does its work and tells so, on a terminal."""
    ended = _run(rig, name, CASES[name], True)
    _check_good(name, ended)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.out)
    assert CASES[name].shows.lower() in shown.lower()
    if name in TABLES:
        assert max(len(line.rstrip()) for line in shown.splitlines()) <= COLUMNS  # one row, one line


@pytest.mark.parametrize("name", CASES)
def test_in_a_pipe(rig: Rig, name: str) -> None:
    """It does its work again, in plain text without escapes, and writes nothing to standard error."""
    ended = _run(rig, name, CASES[name], False)
    _check_good(name, ended)
    assert CASES[name].shows.lower() in ended.out.lower()
    assert "\x1b" not in ended.out


@pytest.mark.parametrize("name", IN_JSON)
def test_as_json(rig: Rig, name: str) -> None:
    """With --json standard output is JSON and nothing else."""
    ended = _run(rig, name, CASES[name], False, "--json")
    _check_good(name, ended)
    for text in ended.out.splitlines() if name in LINES else [ended.out]:
        json.loads(text)


def _check_refused(rig: Rig, name: str, words: Sequence[str], terminal: bool) -> None:
    ended = rig.run(*_words(name, list(words)), terminal=terminal)
    assert ended.status in (1, 2), (name, words, ended)
    assert "Traceback" not in ended.out + ended.err
    told = ended.err.strip("\n").split("\n")
    assert len(told) == 1 and told[0].startswith("gmesh: ") and len(told[0]) > 15, (name, words, ended)


@pytest.mark.parametrize("name", CASES)
def test_used_badly(rig: Rig, name: str) -> None:
    """Bad input ends with 1 or 2 and one line that says why; there is no traceback."""
    for words in CASES[name].bad:
        _check_refused(rig, name, words, False)
    if name.startswith("admin "):
        _check_refused(rig, name, ["--operator", "nowhere", *name.split()[1:]], False)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].bad])
def test_used_badly_at_a_terminal(rig: Rig, name: str) -> None:
    """The same on a terminal."""
    _check_refused(rig, name, CASES[name].bad[0], True)


@pytest.mark.parametrize("what", FOLLOWED)
def test_followed_until_interrupted(rig: Rig, what: str) -> None:
    """--follow prints what there is at once, a line each, and ^C ends it without a word."""
    running = rig.start(what, "--follow", "--json", terminal=True, controlled=True)
    running.until(lambda: "\n" in running.out, "a line")
    running.type(b"\x03")
    ended = running.end()
    assert ended.status == 130
    assert "Traceback" not in ended.out + ended.err
    first = json.loads(ended.out.splitlines()[0])
    assert (first["event"], {"at", "name"} <= first.keys()) == ("present", True)


def test_followed_events(rig: Rig) -> None:
    """When a node goes, whoever follows routes and peers is told, and told again when it is back."""
    with contextlib.ExitStack() as ends:
        routes, peers = (
            rig.start(what, "--follow", "--state", state) for what, state in (("routes", "a"), ("peers", "b"))
        )
        for running in (routes, peers):
            ends.callback(running.end)
            ends.callback(running.process.send_signal, signal.SIGINT)
        routes.until(lambda: "a > b > c" in routes.out, "the route to c")
        peers.until(lambda: " c at " in peers.out, "the link to c")
        rig.daemons["c"].stop()
        peers.until(lambda: " - c at " in peers.out, "that the link is gone")
        routes.until(lambda: " - c by a > b > c" in routes.out, "that the route is gone")
        rig.restart("c")
        peers.until(lambda: " + c at " in peers.out, "that the link is back")
        routes.until(lambda: " + c by a > b > c" in routes.out, "that the route is back")


@pytest.mark.parametrize("typed", [True, False], ids=["^C", "SIGTERM"])
def test_watch_fills_the_terminal_and_puts_it_back(rig: Rig, typed: bool) -> None:
    """watch draws the mesh on a screen of its own, anew and anew; its end gives the old one back."""
    running = rig.start("watch", "--interval", "0.2", terminal=True, controlled=typed)
    running.until(lambda: running.out.count("nodes 3 of 3") >= 2, "two looks")
    if typed:
        running.type(b"\x03")
    else:
        running.process.terminate()
    ended = running.end()
    assert ended.status == 130
    assert "Traceback" not in ended.out + ended.err
    assert ended.out.count("\x1b[?1049h") == ended.out.count("\x1b[?1049l") == 1
    assert ended.out.rindex("\x1b[?25h") > ended.out.rindex("\x1b[?25l")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", ended.out)
    assert re.search(r" a [\u2800-\u28ff]+ b [\u2800-\u28ff]+ c", plain)


def test_watch_in_a_pipe_goes_on_when_the_node_does_not(rig: Rig) -> None:
    """In a pipe each look is printed below the last; that the node stops is told, and its return too."""
    running = rig.start("watch", "--interval", "0.2", "--state", "c")
    running.until(lambda: running.out.count("nodes 3 of 3") >= 2, "two looks")
    rig.daemons["c"].stop()
    running.until(lambda: "no answer since" in running.out, "that it does not answer")
    rig.restart("c")
    after = len(running.out)
    running.until(lambda: "nodes 3 of 3" in running.out[after:], "that it is back")
    running.process.send_signal(signal.SIGINT)
    assert running.end().status == 130


def test_doctor_without_the_daemon(rig: Rig) -> None:
    """With the daemon down doctor says so and judges the state directory; with a bad mode, what to type."""
    rig.daemons["c"].stop()
    ended = rig.run("doctor", "--state", "c", "--json")
    told = json.loads(ended.out)
    levels = {check["check"]: check["level"] for check in told["checks"]}
    assert (ended.status, told["ok"], told["daemon"], levels["daemon"]) == (1, False, False, "FAIL")
    assert {levels[name] for name in ("certificate", "clock", "permissions", "authority", "disk")} == {"OK"}
    (rig.directory / "c/identity.key").chmod(0o644)
    ended = rig.run("doctor", "--state", "c")
    assert "chmod 0600 c/identity.key" in ended.out
    (rig.directory / "c/identity.key").chmod(0o600)
    rig.restart("c")
    rig.daemons["c"].wait_for("local API")
    until(lambda: rig.run("doctor", "--state", "c").status == 0)
