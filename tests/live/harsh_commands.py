# SPDX-License-Identifier: MIT
"""
Every command of C{gmesh} in a harsh world, each in a process of its own that is forked when all is imported.

Run as a program: C{python harsh_commands.py SANDBOX} writes a JSON object a line, C{command}, C{world},
C{status}, C{out} and C{err}; or C{world} and C{skipped} where this host cannot make that world.  The
commands, and what each is given, come from the tree of commands itself, so that none can be forgotten.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from gmesh.cli import main as program

NOBODY = 65534
PATIENCE = {"demo": 3.0}
"""Seconds until somebody types ^C: in the middle of what takes a while."""
HANGS = 180.0
"""Seconds after which any other command is taken to wait where nothing comes."""
SAMPLES = {
    "directory": "fresh",
    "state": "state",
    "node": "b",
    "name": "b",
    "peer": "b",
    "service": "chat",
    "network": "lab",
    "key": "operator/operator.key",
    "files": "state/genesis.json",
    "invite": "invite",
    "backup": "state/genesis.json",
    "out": "fresh.json",
    "ttl": "1h",
}
"""What a parameter of that name is given; others get a file, a number, a choice or a letter by their type."""
HEAVY = (
    "asyncio",
    "gmesh.authority.operators",
    "gmesh.authority.restore",
    "gmesh.authority.server",
    "gmesh.cli.demo_daemons",
    "gmesh.node.control_commands",
    "gmesh.node.identity_store",
    "rich.console",
    "rich.live",
    "rich.table",
    "sqlite3",
)
SLOW = {"demo": ("plain", "no temporary directory", "closed")}
"""A whole network is made in these worlds only."""


Leaves = Iterator[tuple[tuple[str, ...], click.Command]]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Leaves:
    """Whatever does something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def sample(parameter: click.Parameter) -> str:
    """Something that a parameter takes."""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return str(kind.choices[0])
    if isinstance(kind, click.IntRange | click.FloatRange):
        return str(int(kind.min or 1))
    if isinstance(kind, click.types.IntParamType):
        return "1"
    return SAMPLES.get(parameter.name or "", "state/genesis.json" if isinstance(kind, click.Path) else "a")


def words(path: tuple[str, ...], command: click.Command) -> list[str]:
    """A whole command line: everything required, and the state of the sandbox where one is taken."""
    given = ["admin", "--operator", "operator", *path[1:]] if path[0] == "admin" else list(path)
    for parameter in command.params:
        option = isinstance(parameter, click.Option)
        if option and (parameter.required or parameter.name == "state"):
            given += [parameter.opts[-1], sample(parameter)]
        elif not option and (parameter.required or parameter.nargs == -1):
            given.append(sample(parameter))
    return given


# Worlds: each changes the process that is about to be the command.


def _reopen(number: int, path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    os.dup2(descriptor, number)
    os.close(descriptor)


def _closed(*numbers: int) -> Callable[[], None]:
    def close() -> None:
        for number in numbers:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as the interpreter finds them

    return close


def _nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)


def _locked() -> None:
    """Nothing here may be read or written, though it is ours."""
    for file in Path().rglob("*"):
        if os.geteuid() == 0:
            os.chown(file, NOBODY, NOBODY)
    for file in [*Path().rglob("*"), Path()]:
        file.chmod(0o555 if file.is_dir() else 0)
    _nobody()


def _full_output() -> None:
    _reopen(1, "/dev/full", os.O_WRONLY)


def _reader_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)


def _ascii() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, io.TextIOWrapper(stream.detach(), encoding="ascii", errors="strict"))
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # as the interpreter has it
    os.environ |= {"LC_ALL": "C", "LANG": "xx_XX.nonsense", "PYTHONUTF8": "0"}


def _odd_environment() -> None:
    os.environ |= {
        "TERM": "nonsense", "COLUMNS": "many", "LINES": "-1", "HOME": "/nowhere", "TZ": "No/Where",
        "GMESH_STATE": "\udcff", "GMESH_OPERATOR": "a" * 5000, "http_proxy": "x", "NO_COLOR": "",
    }  # fmt: skip


def _no_temporary() -> None:
    import tempfile

    tempfile.tempdir = os.environ["TMPDIR"] = "/nowhere"


WORLDS: dict[str, Callable[[], None]] = {
    "plain": lambda: None,
    "another user": _nobody,
    "no rights": _locked,
    "ascii": _ascii,
    "odd environment": _odd_environment,
    "no temporary directory": _no_temporary,
    "no input": _closed(0),
    "no output": _closed(1),
    "no errors": _closed(2),
    "closed": _closed(0, 1, 2),
    "full output": _full_output,
    "reader gone": _reader_gone,
}
DISKS = ("read-only disk", "full disk")


def mounted(sandbox: Path, world: str) -> Path | None:
    """A small disk of its own with the sandbox on it, or None where this host does not let us."""
    disk = sandbox.with_name(world.replace(" ", "-"))
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True
    ).returncode:
        return None
    shutil.copytree(sandbox, disk, dirs_exist_ok=True)
    if world == "read-only disk":
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        return disk
    with (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            try:
                filler.write(bytes(4096))
            except OSError:
                return disk


def run(given: list[str], directory: Path, world: Callable[[], None], patience: float) -> dict[str, object]:
    """One command in one world."""
    texts = [directory.parent / name for name in ("out", "err")]
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.chdir(directory)
            _reopen(0, "/dev/null", os.O_RDONLY)
            for number, text in enumerate(texts, 1):
                _reopen(number, str(text), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, patience)
            world()
            try:
                program.main(given)
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else 98
            if sys.stderr is not None:
                sys.stderr.flush()
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    began = time.monotonic()
    _, ended = os.waitpid(child, 0)
    out, err = (text.read_text("utf-8", "replace") for text in texts)
    return {
        "status": os.waitstatus_to_exitcode(ended),
        "seconds": round(time.monotonic() - began, 2),
        "out": out[-2000:],
        "err": err[-4000:],
    }


def preload() -> None:
    """What a command would import: once for all, and before the user changes, who may not read it."""
    for module in HEAVY:
        importlib.import_module(module)
    with contextlib.suppress(ImportError):  # where there is no psycopg, the command says so
        importlib.import_module("gmesh.authority.database_check")
    codecs.lookup("utf-16-be")


def everything(sandbox: Path) -> Iterator[dict[str, object]]:
    """All commands in all worlds."""
    tree = {" ".join(path): words(path, command) for path, command in commands(program.gmesh)}
    preload()
    gc.freeze()
    for world, change in WORLDS.items():
        for name, given in tree.items():
            if world not in SLOW.get(name, (world,)):
                continue
            copy = sandbox.with_name("copy")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(sandbox, copy)
            odd = [*given[:-1], "p\u00fcmpe\udcff"] if world == "ascii" and len(given) > 1 else given
            yield {"command": name, "world": world} | run(odd, copy, change, PATIENCE.get(name, HANGS))
    for world in DISKS:
        disk = mounted(sandbox, world)
        if disk is None:
            yield {"world": world, "skipped": "no disk can be mounted here"}
            continue
        for name, given in tree.items():
            if name not in SLOW:
                yield {"command": name, "world": world} | run(given, disk, lambda: None, HANGS)
        subprocess.run(["umount", "-l", disk], check=False)


if __name__ == "__main__":
    for result in everything(Path(sys.argv[1])):
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
