# SPDX-License-Identifier: MIT
"""The house keeps its shape: who may import whom, read from the source with C{ast}."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "gmesh").rglob("*.py"))

BASE = {"errors", "files", "interfaces"}
STACK = BASE | {"trust", "wire", "routing"}
DAEMONLESS = STACK | {"mesh", "endtoend"}
#: Room -> the rooms it may import beside itself.
MAY_IMPORT = {
    "errors": set(),
    "interfaces": set(),
    "files": {"errors"},
    "notify": set(),
    "loglines": {"errors"},
    "steady": set(),
    "statelock": {"errors"},
    "keyfiles": BASE | {"trust"},
    "trust": BASE,
    "wire": BASE,
    "routing": BASE,
    "mesh": STACK,
    "endtoend": STACK | {"mesh"},
    "node": DAEMONLESS | {"notify", "steady", "statelock", "loglines"},
    "authority": BASE | {"trust", "notify", "steady", "statelock", "loglines", "keyfiles"},
    "testing": DAEMONLESS | {"node", "keyfiles"},
    "cli": DAEMONLESS | {"node", "authority", "testing", "keyfiles"},
}
PURE = {"trust", "wire", "routing"}
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


TREES = {
    path.relative_to(ROOT / "gmesh").as_posix(): ast.parse(path.read_text(encoding="utf-8"), str(path))
    for path in SOURCES
}


def room(name: str) -> str:
    """The room a source file stands in: C{trust} for C{trust/keys.py}."""
    return name.removesuffix(".py").split("/")[0]


def imports(node: ast.AST) -> Iterator[str]:
    """Every module named by an import statement below C{node}, as C{package.module.name}."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


def within(name: str, package: str) -> bool:
    """True if C{name} is C{package} or below it."""
    return name == package or name.startswith(package + ".")


def test_import_direction() -> None:
    """A room imports only the rooms below it."""
    wrong = {}
    for name, tree in TREES.items():
        allowed = MAY_IMPORT.get(room(name), set()) | {room(name), "__version__"}
        used = {module.split(".")[1] for module in imports(tree) if module.startswith("gmesh.")}
        if not used <= allowed:
            wrong[name] = used - allowed
    assert not wrong


def test_every_room_is_known() -> None:
    """The rooms of the tree are those this test judges."""
    assert {room(name) for name in TREES} == set(MAY_IMPORT) | {"__init__"}


def test_pure_rooms_reach_nothing() -> None:
    """trust, wire and routing take bytes and C{now}: no reactor, clock, file or socket."""
    wrong = [
        f"{name} imports {module}"
        for name, tree in TREES.items()
        if room(name) in PURE
        for module in imports(tree)
        if within(module, "twisted.internet") or module.split(".")[0] in IMPURE_MODULES
    ]
    assert not wrong


def test_one_importer_of_noise() -> None:
    """The Noise library, which has two names, is imported by one module."""
    users = {
        name
        for name, tree in TREES.items()
        if any(module.split(".")[0] in ("noise", "noiseprotocol") for module in imports(tree))
    }
    assert users == {"wire/noise_library.py"}


def test_interfaces_import_only_seams() -> None:
    """interfaces.py stands on zope and Twisted's own interfaces alone."""
    for module in imports(TREES["interfaces.py"]):
        assert module.split(".")[0] in ("__future__", "zope") or within(module, "twisted.internet.interfaces")


def test_cli_starts_light() -> None:
    """A command imports neither Twisted nor a daemon nor rich when it starts, only when it needs them."""
    heavy = ("twisted", "rich", "gmesh.node", "gmesh.authority", "gmesh.testing")
    wrong = []
    for name, tree in TREES.items():
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
    assert not wrong


def test_form_of_a_module() -> None:
    """Each file has its licence line, a docstring and, if it holds more than constants, C{__all__}."""
    wrong = []
    for path, (name, tree) in zip(SOURCES, TREES.items(), strict=True):
        if not path.read_text(encoding="utf-8").startswith("# SPDX-License-Identifier: MIT\n"):
            wrong.append(f"{name} has no licence line")
        if not ast.get_docstring(tree):
            wrong.append(f"{name} has no docstring")
        targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
        if (
            len(tree.body) > 1
            and path.name != "limits.py"
            and "__all__" not in {node.id for node in targets if isinstance(node, ast.Name)}
        ):
            wrong.append(f"{name} has no __all__")
    assert not wrong
