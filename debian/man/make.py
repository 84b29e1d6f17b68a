# SPDX-License-Identifier: MIT
"""
Man pages from the programs themselves: one a C{gmesh} command, and the options of both daemons.

C{python3 debian/man/make.py OUTPUT}; the three C{*.in} files hold what a program cannot say of itself.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from twisted.python import usage

from gmesh import __version__
from gmesh.authority.options import Options as AuthorityOptions
from gmesh.cli.main import COMMANDS, gmesh
from gmesh.node.tap import Options as NodeOptions

HERE = Path(__file__).parent
DATE = time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))
__all__ = ["main"]


def roff(text: str) -> str:
    """C{text} without meaning to roff."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def heading(name: str, section: int) -> str:
    """The first line of a page."""
    return f'.TH {roff(name.upper())} {section} "{DATE}" "gmesh {__version__}" "gmesh"\n'


def paragraphs(text: str) -> str:
    """Running text, one roff paragraph each."""
    return "".join(f".PP\n{roff(' '.join(part.split()))}\n" for part in text.split("\n\n"))


def entries(pairs: list[tuple[str, str]]) -> str:
    """A list of terms and what they mean."""
    return "".join(f".TP\n.B {roff(term)}\n{roff(' '.join(text.split()))}\n" for term, text in pairs)


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, groups included."""
    context = click.Context(group, info_name=path[-1])
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def reference(path: tuple[str, ...]) -> str:
    """The page of a command, as others name it."""
    return f".BR {roff('-'.join(path))} (1)"


def options_of(context: click.Context, items: Sequence[click.Parameter]) -> list[tuple[str, str]]:
    """Options in the words of a command's own C{--help}."""
    options = [item for item in items if isinstance(item, click.Option)]
    return [record for item in options if (record := item.get_help_record(context))]


def variables(group: click.Group) -> list[tuple[str, str]]:
    """Every environment variable that stands for an option, and in which commands."""
    served: dict[tuple[str, str], list[str]] = {}
    for path, command in commands(group, ("gmesh",)):
        for item in command.params:
            if isinstance(item.envvar, str):
                served.setdefault((item.envvar, max(item.opts, key=len)), []).append(" ".join(path))
    return [(name, f"Stands for {option} of: {', '.join(paths)}.")
            for (name, option), paths in sorted(served.items())]  # fmt: skip


def command_page(
    parents: list[tuple[tuple[str, ...], click.Command]], path: tuple[str, ...], command: click.Command
) -> str:
    """The page of one command; the options of the groups it is in go before its name."""
    context = click.Context(gmesh, info_name="gmesh")
    words, inherited = ["gmesh"], ""
    for above, group in parents:
        context = click.Context(group, info_name=above[-1], parent=context)
        words.append(above[-1])
        if found := options_of(context, group.params):
            words.append("[OPTIONS]")
            inherited += f".SH OPTIONS OF {roff(' '.join(above).upper())}\n"
            inherited += f"They stand before the command.\n{entries(found)}"
    context = click.Context(command, info_name=path[-1], parent=context, help_option_names=["-h", "--help"])
    words += [path[-1], *command.collect_usage_pieces(context)]
    name = "-".join(path)
    page = heading(name, 1)
    page += f".SH NAME\n{roff(name)} \\- {roff(command.get_short_help_str(200).rstrip('.'))}\n"
    page += f".SH SYNOPSIS\n{roff(' '.join(words))}\n"
    page += f".SH DESCRIPTION\n{paragraphs(command.help or '')}"
    page += f".SH OPTIONS\n{entries(options_of(context, command.get_params(context)))}{inherited}"
    others = [("gmesh",), *(above for above, _ in parents)]
    if isinstance(command, click.Group):
        below = [(part, command.get_command(context, part)) for part in command.list_commands(context)]
        parts = [(part, sub.get_short_help_str(200)) for part, sub in below if sub]
        page += f".SH COMMANDS\nEach has a page of its own.\n{entries(parts)}"
        others += [(*path, part) for part, _ in below]
    return page + ".SH SEE ALSO\n" + ",\n".join(map(reference, others)) + "\n"


def daemon_options(options: usage.Options) -> str:
    """What a daemon's own C{--help} says of its options."""
    lines = options.getUsage(width=10_000).partition("Options:\n")[2].partition("\n\n")[0]
    pairs = [re.split(r"  +", line.strip(), maxsplit=1) for line in lines.splitlines()]
    return entries([(option, text) for option, text in pairs])


def main(output: Path) -> None:
    """Write every page."""
    output.mkdir(parents=True, exist_ok=True)
    every = dict(commands(gmesh, ("gmesh",)))
    for path, command in every.items():
        parents = [(path[:length], every[path[:length]]) for length in range(2, len(path))]
        (output / f"{'-'.join(path)}.1").write_text(command_page(parents, path, command))
    parts = {
        "gmesh.1": entries([(name, text) for name, (_, _, text) in COMMANDS.items()]),
        "gmesh-authority.8": daemon_options(AuthorityOptions()),
        "gmesh-node.8": daemon_options(NodeOptions()),
    }
    for name, generated in parts.items():
        stem, _, section = name.rpartition(".")
        template = (HERE / f"{name}.in").read_text().partition("\n")[2]
        text = template.replace("@GENERATED@\n", generated).replace(
            "@VARIABLES@\n", entries(variables(gmesh))
        )
        (output / name).write_text(heading(stem, int(section)) + text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
