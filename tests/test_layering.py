# SPDX-License-Identifier: MIT
"""The house keeps its shape: who may import whom, read from the source with C{ast}."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parents[1]
HOUSE = {
    path.relative_to(ROOT / "gmesh").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "gmesh").rglob("*.py"))
}
"""Text by file name."""

BASE = {"addresses", "errors", "files", "interfaces", "stream_errors", "token_bucket"}
STACK = BASE | {"trust", "wire", "routing"}
DAEMONLESS = STACK | {"mesh", "endtoend", "streams"}
#: Room -> the rooms it may import beside itself.
MAY_IMPORT = {
    "addresses": set(),
    "errors": set(),
    "interfaces": set(),
    "stream_errors": {"errors"},
    "files": {"errors"},
    "token_bucket": set(),
    "daemon": {"errors", "files"},
    "keyfiles": BASE | {"trust"},
    "proxy_settings": {"errors", "files", "wire"},
    "trust": BASE,
    "wire": BASE,
    "routing": BASE,
    "mesh": STACK,
    "endtoend": STACK | {"mesh"},
    "streams": STACK | {"mesh", "endtoend"},
    "client": {"addresses", "errors", "interfaces", "stream_errors"},
    "node": DAEMONLESS | {"daemon", "client", "proxy_settings"},
    "authority": BASE | {"trust", "daemon", "keyfiles"},
    "testing": DAEMONLESS | {"node", "keyfiles", "client"},
    "cli": DAEMONLESS | {"node", "authority", "testing", "keyfiles", "client", "proxy_settings"},
}
PURE = {"token_bucket", "trust", "wire", "routing"}
#: What reads a clock, a file, a socket or another thread: never below C{mesh}.
IMPURE_MODULES = {
    "asyncio",
    "multiprocessing",
    "os",
    "pathlib",
    "select",
    "socket",
    "subprocess",
    "threading",
    "time",
}


TREES = {name: ast.parse(text, name) for name, text in HOUSE.items()}
Trees = Mapping[str, ast.Module]


def room(name: str) -> str:
    """The room a source file stands in: C{trust} for C{trust/keys.py}."""
    return name.removesuffix(".py").split("/")[0]


@cache
def imports(node: ast.AST) -> tuple[str, ...]:
    """Every module named by an import statement below C{node}, as C{package.module.name}."""
    found: list[str] = []
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found += (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            found += (f"{child.module}.{alias.name}" for alias in child.names)
    return tuple(found)


def within(name: str, package: str) -> bool:
    """True if C{name} is C{package} or below it."""
    return name == package or name.startswith(package + ".")


def of_gmesh(module: str) -> str | None:
    """The room of ours that an import reaches, or None if it is of others."""
    parts = module.split(".")
    return parts[1] if parts[0] == "gmesh" and len(parts) > 1 else None


# The rules: each gives what breaks it.


def up(trees: Trees) -> list[str]:
    """A room imports only the rooms below it."""
    return [
        f"{name} imports {module}"
        for name, tree in trees.items()
        for module in imports(tree)
        if (used := of_gmesh(module)) is not None
        and used not in MAY_IMPORT.get(room(name), set()) | {room(name), "__version__"}
    ]


def unknown_rooms(trees: Trees) -> list[str]:
    """The rooms of the tree are those that are judged here."""
    return sorted({room(name) for name in trees} ^ (set(MAY_IMPORT) | {"__init__"}))


def impure(trees: Trees) -> list[str]:
    """The token bucket, trust, wire and routing take bytes and C{now}: no reactor, clock, file or socket."""
    return [
        f"{name} imports {module}"
        for name, tree in trees.items()
        if room(name) in PURE
        for module in imports(tree)
        if within(module, "twisted.internet") or module.split(".")[0] in IMPURE_MODULES
    ]


def other_users_of_noise(trees: Trees) -> list[str]:
    """The Noise library, which has two names, is imported by one module."""
    users = {
        name
        for name, tree in trees.items()
        if any(module.split(".")[0] in ("noise", "noiseprotocol") for module in imports(tree))
    }
    return sorted(users ^ {"wire/noise_library.py"})


def more_than_seams(trees: Trees) -> list[str]:
    """interfaces.py stands on zope and Twisted's own interfaces alone."""
    return [
        module
        for module in imports(trees["interfaces.py"])
        if module.split(".")[0] not in ("__future__", "zope")
        and not within(module, "twisted.internet.interfaces")
    ]


def heavy_starts(trees: Trees) -> list[str]:
    """A command imports neither Twisted nor a daemon nor rich when it starts, only when it needs them."""
    heavy = ("twisted", "rich", "gmesh.node", "gmesh.authority", "gmesh.daemon", "gmesh.testing")
    wrong = []
    for name, tree in trees.items():
        later = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ]
        inside = {module for part in later for module in imports(part)}
        if room(name) == "cli":
            wrong += [
                f"{name} imports {module}"
                for module in set(imports(tree)) - inside
                if any(within(module, package) for package in heavy)
            ]
    return wrong


def circles(trees: Trees) -> list[str]:
    """No file imports itself by way of others, not for the types either."""
    files = {
        "gmesh." + name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name
        for name in trees
    }
    graph = networkx.DiGraph()
    for name, tree in trees.items():
        for module in imports(tree):
            used = files.get(module) or files.get(module.rpartition(".")[0])
            if used not in (None, name):
                graph.add_edge(name, used)
    found = [sorted(part) for part in networkx.strongly_connected_components(graph) if len(part) > 1]
    return [" <-> ".join(part) for part in found]


#: Each daemon has its C{Options}, the word of twistd's plug-ins.  None may be added.
KNOWN_NAMESAKES = {"Options"}


@cache
def classes(tree: ast.Module) -> tuple[str, ...]:
    """The public classes of a file."""
    found = (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return tuple(name for name in found if not name.startswith("_"))


def namesakes(trees: Trees) -> list[str]:
    """No two public classes have one name."""
    homes: dict[str, list[str]] = {}
    for name, tree in trees.items():
        for each in classes(tree):
            homes.setdefault(each, []).append(name)
    return [
        f"{each} is in {', '.join(where)}"
        for each, where in homes.items()
        if len(where) > 1 and each not in KNOWN_NAMESAKES
    ]


MAX_ARGUMENTS = 8


def long_constructors(trees: Trees) -> list[str]:
    """A constructor takes at most eight arguments: who needs more lacks a collaborator."""
    return [
        f"{name}: {owner.name} takes {number} arguments"
        for name, tree in trees.items()
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for method in owner.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        for taken in [method.args]
        if (number := len(taken.posonlyargs + taken.args + taken.kwonlyargs) - 1) > MAX_ARGUMENTS
    ]


@cache
def members(owner: ast.ClassDef) -> frozenset[str]:
    """The names that a class has: its methods, its fields and what it sets on itself."""
    found = set()
    for node in ast.walk(owner):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return frozenset(found)


def lonely_shapes(trees: Trees) -> list[str]:
    """A C{typing.Protocol} has two providers at least, and no name like those of zope's interfaces."""
    owners = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    wrong = []
    for name, tree in trees.items():
        if "typing.Protocol" not in imports(tree):
            continue
        words = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "typing"
            for alias in node.names
            if alias.name == "Protocol"
        }
        for shape in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            if words.isdisjoint(ast.unparse(base).split("[")[0] for base in shape.bases):
                continue
            providers = [each for each in owners if each is not shape and members(shape) <= members(each)]
            if len(providers) < 2 or shape.name[:2].isupper():
                wrong.append(f"{name}: {shape.name} has {len(providers)} providers")
    return wrong


RULES = (
    up,
    unknown_rooms,
    impure,
    other_users_of_noise,
    more_than_seams,
    heavy_starts,
    circles,
    namesakes,
    long_constructors,
    lonely_shapes,
)


_LONELY = "from typing import Protocol\nclass Lonely(Protocol):\n    def unheard_of(self): ..."
_LONG = "class Long:\n    def __init__(self, a, b, c, d, e, *, f, g, h, i): ..."


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_house_keeps_its_rules(rule: Callable[[Trees], list[str]]) -> None:
    """Each rule, over every file."""
    assert rule(TREES) == []


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (up, "errors.py", "from gmesh import files"),
        (up, "files.py", "import gmesh.daemon.lock"),
        (up, "trust/keys.py", "from gmesh.wire.codec import FieldReader"),
        (up, "routing/spf.py", "from gmesh.mesh import neighbours"),
        (up, "mesh/neighbours.py", "from gmesh.endtoend.services import Services"),
        (up, "mesh/data_protocol.py", "def late():\n    from gmesh.daemon import web"),
        (up, "endtoend/echo.py", "import gmesh.node.runtime"),
        (up, "daemon/web.py", "from gmesh.node.limits import LOCAL_BODY_LIMIT"),
        (up, "daemon/lock.py", "from gmesh.authority import limits"),
        (up, "daemon/notify.py", "from gmesh.interfaces import ILink"),
        (up, "node/tap.py", "from gmesh.authority.tap import Options"),
        (up, "authority/tap.py", "def late():\n    import gmesh.node.tap"),
        (up, "authority/http.py", "from gmesh.mesh.limits import KEEPALIVE"),
        (up, "testing/mesh.py", "from gmesh.cli import main"),
        (unknown_rooms, "attic/old.py", ""),
        (up, "token_bucket.py", "from gmesh.errors import GmeshError"),
        (impure, "token_bucket.py", "from time import monotonic"),
        (impure, "wire/codec.py", "import time"),
        (impure, "trust/keys.py", "from os import urandom"),
        (impure, "routing/engine.py", "from twisted.internet.defer import Deferred"),
        (other_users_of_noise, "mesh/noise.py", "from noiseprotocol.connection import NoiseConnection"),
        (more_than_seams, "interfaces.py", "from twisted.web.iweb import IRequest"),
        (circles, "authority/route.py", "from gmesh.authority.routes import ROUTES"),
        (circles, "trust/limits.py", "if TYPE_CHECKING:\n    from gmesh.trust import verify"),
        (namesakes, "wire/frames.py", "class Crl:\n    pass"),
        (long_constructors, "wire/frames.py", _LONG),
        (
            lonely_shapes,
            "wire/frames.py",
            _LONELY,
        ),
        (heavy_starts, "cli/main.py", "from twisted.python import usage"),
        (heavy_starts, "cli/init.py", "from gmesh.daemon.lock import StateLock"),
    ],
)
def test_each_rule_finds_a_violation(rule: Callable[[Trees], list[str]], name: str, text: str) -> None:
    """A rule that finds nothing would keep nothing."""
    assert len(rule(TREES | {name: ast.parse(text)})) == 1


def malformed(house: Mapping[str, str]) -> list[str]:
    """Each file has its licence line, a docstring and C{__all__}; all names of limits are public anyway."""
    wrong = []
    for name, text in house.items():
        tree = ast.parse(text, name)
        if not text.startswith("# SPDX-License-Identifier: MIT\n"):
            wrong.append(f"{name} has no licence line")
        if not ast.get_docstring(tree):
            wrong.append(f"{name} has no docstring")
        targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        names = {node.id for node in targets if isinstance(node, ast.Name)}
        if len(tree.body) > 1 and "__all__" not in names and Path(name).name != "limits.py":
            wrong.append(f"{name} has no __all__")
    return wrong


def test_form_of_a_module() -> None:
    """Licence line, docstring, C{__all__}; what lacks them is found."""
    assert malformed(HOUSE) == []
    assert len(malformed({"bare.py": "a = 1\nb = 2\n"})) == 3
    assert len(malformed({"mesh/limits.py": "A = 1\nB = 2\n"})) == 2
