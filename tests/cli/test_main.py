# SPDX-License-Identifier: MIT
"""The command as a whole: help, exit statuses, one line for an error, and nothing heavy at start."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from gmesh.cli.main import COMMANDS, WORDS
from gmesh.cli.main import gmesh as group
from gmesh.errors import StoreError

ROOT = Path(__file__).resolve().parents[2]

ON_THIS_HOST = {
    "status",
    "peers",
    "routes",
    "nodes",
    "transits",
    "capture",
    "services",
    "ping",
    "trace",
    "send",
    "receive",
    "whois",
    "doctor",
    "watch",
}
DESIGNED = {"demo", "init", "key", "genesis", "admin", "audit", "restore", "recover-operator", "join"}
DESIGNED |= ON_THIS_HOST | {"database", "connect", "expose", "forward", "streams", "bench"}


def test_every_command_is_listed(run: Callable[..., Any]) -> None:
    """--help lists every command without importing it."""
    ended = run("--help")
    assert ended.status == 0
    commands = ended.out.partition("Commands:")[2].partition("Words:")[0]
    listed = {line.split()[0] for line in commands.splitlines() if line.strip()}
    assert listed == DESIGNED == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_each_command(run: Callable[..., Any], name: str) -> None:
    """Each command of the table exists under its name and explains itself."""
    ended = run(name, "--help")
    assert ended.status == 0
    assert ended.out.startswith(f"Usage: gmesh {name} ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["ping"],
        ["send", "c"],
        ["ping", "c", "--count", "0"],
        ["init", "x"],
        ["send", "c", "--service", "s", "--timeout", "301"],
    ],
)
def test_wrong_usage(run: Callable[..., Any], arguments: list[str]) -> None:
    """Wrong usage ends with 2 and says in one line what is missing, and where to read more."""
    ended = run(*arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("gmesh: ") and ended.err.endswith('--help")\n')


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["ping", "c", "--count", "x"], "'--count': 'x' is not a whole number"),
        (["watch", "--interval", "x"], "'--interval': 'x' is not a number"),
    ],
)
def test_no_number(run: Callable[..., Any], arguments: list[str], fault: str) -> None:
    """In the words of people."""
    assert f"Invalid value for {fault} (see" in run(*arguments).err


def _below(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _below(found, (*path, name))


def _listed(path: tuple[str, ...]) -> list[str]:
    """The commands of a group; none of what is no group."""
    found: click.Command = group
    for name in path:
        assert isinstance(found, click.Group)
        below = found.get_command(click.Context(found), name)
        assert below is not None
        found = below
    return found.list_commands(click.Context(found)) if isinstance(found, click.Group) else []


@pytest.mark.parametrize("path", list(_below(group)), ids=lambda path: " ".join(("gmesh", *path)))
def test_an_unknown_option(run: Callable[..., Any], path: tuple[str, ...]) -> None:
    """Each command and group tells of an option that it does not know in one line, and where its help is."""
    ended = run(*path, "--no-such-option")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("gmesh: No such option") and ended.err.count("\n") == 1
    assert ended.err.endswith(f'(see "{" ".join(("gmesh", *path))} --help")\n')


@pytest.mark.parametrize("path", [path for path in _below(group) if _listed(path)], ids=" ".join)
def test_b13_each_group_suggests_what_a_mistyped_command_meant(
    run: Callable[..., Any], path: tuple[str, ...]
) -> None:
    """At every level; with a letter too many, and in capitals."""
    for name in _listed(path):
        for typed in (name[:2] + "q" + name[2:], name.upper()):
            ended = run(*path, typed)
            assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
            suggested = ended.err.partition("Did you mean ")[2].partition("?")[0].split(" or ")
            assert repr(name) in suggested
            assert ended.err.endswith(f'(see "{" ".join(("gmesh", *path))} --help")\n')


def test_b13_what_is_an_operators_is_found_below_admin(run: Callable[..., Any]) -> None:
    """And what resembles nothing gets no suggestion."""
    assert "Did you mean 'admin revoke'?" in run("revoke", "c").err
    assert "Did you mean 'admin invite'?" in run("invite").err
    assert "Did you mean" not in run("xyzzy").err


@pytest.mark.parametrize(
    ("raised", "status", "shown"),
    [
        (StoreError("unwritable", "the disk is full\x1b[0m"), 1, "gmesh: the disk is full\\x1b[0m"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "gmesh: /root/x: Permission denied"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_one_line(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, raised: BaseException, status: int, shown: str
) -> None:
    """An error of gmesh or of the system is one line without control characters; ^C is silent."""

    @click.command()
    def failing() -> None:
        raise raised

    monkeypatch.setattr(type(group), "get_command", lambda *_: failing)
    ended = run("status")
    assert (ended.status, ended.err.strip()) == (status, shown)


def test_reader_that_leaves() -> None:
    """When the reader of a pipe leaves, the command ends without a traceback."""
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.stdin.read(); from gmesh.cli.main import main; main(['--help'])",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    writer.stdout.close()
    writer.stdout = None
    _, errors = writer.communicate("", timeout=180)
    assert (writer.returncode, errors) == (1, "")


def test_closed_standard_output(tmp_path: Path) -> None:
    """Without a place to print it to nothing is done; without one for errors there is no traceback."""
    program = f"exec {sys.executable} -m gmesh.cli.main key create {tmp_path}/new.key"
    told = {">&-": "gmesh: standard output is closed: nothing was done\n", ">&- 2>&-": ""}
    for closing, message in told.items():
        ended = subprocess.run(
            ["sh", "-c", f"{program} {closing}"], cwd=ROOT, capture_output=True, text=True, timeout=180
        )
        assert (ended.returncode, ended.stderr) == (1, message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", sorted({module for module, _, _ in COMMANDS.values()}))
def test_commands_start_without_twisted(module: str) -> None:
    """Importing any command imports neither Twisted nor rich: that is what keeps each start short."""
    code = f"import sys, {module}; print({{'twisted', 'rich', 'klein', 'asyncio'}} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True
    )
    assert run.stdout == "set()\n"


def test_the_help_explains_its_words(run: Callable[..., Any]) -> None:
    """Whoever meets the command for the first time finds genesis, operator, anchor, CRL and cost in it."""
    out = run("--help").out
    told = out.partition("Words:")[2]
    for word in ("genesis", "operator", "administer", "anchor", "CRL", "cost"):
        assert re.search(rf"\b{word}\b", told), word
    glossary = (ROOT / "docs/glossary.rst").read_text(encoding="utf-8")
    entries = re.findall(r"^   (\S.*)$", glossary, re.MULTILINE)
    assert set(WORDS) <= {word for line in entries for word in line.split(", ")}
    assert max(map(len, out.splitlines())) <= 80
