# SPDX-License-Identifier: MIT
"""What is installed is what is in the tree: packages, plugins, SQL, and both daemons in C{twistd --help}."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

from gmesh.authority.options import SETTINGS
from gmesh.daemon.settings_file import read_settings
from gmesh.testing.twistd import RUN_TWISTD

ROOT = Path(__file__).resolve().parents[1]
DAEMONS = {"gmesh-authority", "gmesh-node"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of what a build needs, without caches of this tree."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    unwanted = shutil.ignore_patterns("__pycache__", "dropin.cache")
    for name in ("gmesh", "twisted"):
        shutil.copytree(ROOT / name, copy / name, ignore=unwanted)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from it, by the build backend that pip would call."""
    pytest.importorskip("setuptools", reason="the build backend is not installed", minversion="70.1")
    output = tmp_path_factory.mktemp("wheel")
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    _run([sys.executable, "-c", code, str(output)], cwd=source)
    (built,) = output.glob("*.whl")
    return built


def _run(command: list[str], cwd: Path) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GMESH_STATE")
    }
    run = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def _environment(directory: Path) -> Path:
    """A virtual environment that sees the dependencies installed here, but no gmesh; its Python."""
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(_run([str(python), "-c", code], cwd=directory).strip())
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(ours)))
    return python


def _install(python: Path, *what: str) -> None:
    pytest.importorskip("pip", reason="pip is not installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--ignore-installed",
        *options,
    ]
    _run([*command, *what], cwd=python.parent)


def _listed(python: Path) -> set[str]:
    """The sub-commands in C{twistd --help}."""
    lines = _run([str(python), "-c", RUN_TWISTD, "--help"], cwd=python.parent).splitlines()
    return {line.split()[0] for line in lines if line.startswith("    ") and line.split()}


def test_package_list_is_the_tree() -> None:
    """setup.cfg lists every package of the tree and the plugins, nothing else."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    packages = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in ROOT.glob("gmesh/**/__init__.py")
    }
    assert set(settings["options"]["packages"].split()) == packages | {"twisted.plugins"}


def test_twisted_stays_twisteds() -> None:
    """Our twisted/ and twisted/plugins/ have no __init__.py, which would hide Twisted's own."""
    assert not list((ROOT / "twisted").rglob("__init__.py"))


PLUGINS = "twisted/plugins/*.py"


def test_wheel_contents(wheel: Path) -> None:
    """Every module, plugin, SQL file, API description and the type marker, and no part of Twisted."""
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("gmesh/**/*.py", "gmesh/**/*.sql", "gmesh/**/*.json", "gmesh/py.typed", PLUGINS)
        for path in ROOT.glob(pattern)
    }
    assert {
        "gmesh/py.typed",
        "twisted/plugins/gmesh_node.py",
        "twisted/plugins/gmesh_authority.py",
        "twisted/plugins/gmesh_endpoints.py",
    } <= expected
    assert any(name.endswith(".sql") for name in expected)
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_top_level_is_ours(wheel: Path) -> None:
    """top_level.txt does not claim Twisted: some tools remove what it names."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("top_level.txt")]
    assert archive.read(name).decode().split() == ["gmesh"]


@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_twistd_lists_both_daemons(source: Path, wheel: Path, tmp_path: Path, editable: bool) -> None:
    """After an install, editable or not, twistd knows both daemons and the command is there."""
    python = _environment(tmp_path / "environment")
    assert not DAEMONS & _listed(python) or _installed_here(python)
    _install(python, *(["--editable", str(source)] if editable else [str(wheel)]))
    where = Path(_run([str(python), "-c", "import gmesh; print(gmesh.__file__)"], cwd=tmp_path).strip())
    assert where.is_relative_to(source if editable else tmp_path)
    assert _listed(python) >= DAEMONS
    assert "gmesh" in _run([str(python.with_name("gmesh")), "--version"], cwd=tmp_path)


def _installed_here(python: Path) -> bool:
    """True where a plain install of gmesh already lies among the dependencies."""
    code = "import importlib.util; print(importlib.util.find_spec('gmesh') is not None)"
    return _run([str(python), "-c", code], cwd=python.parent).strip() == "True"


@pytest.mark.parametrize("unit", sorted(ROOT.glob("debian/*.service")), ids=lambda path: path.name)
def test_a27_no_unit_leaves_a_core_with_keys(unit: Path) -> None:
    """What a daemon held in memory when it crashed is written nowhere."""
    assert "LimitCORE=0" in unit.read_text().splitlines()


@pytest.mark.skipif(not (ROOT / "debian").is_dir(), reason="the packages are not in this copy")
@pytest.mark.parametrize("name", sorted(DAEMONS))
def test_b22_where_the_examples_of_debian_listen(name: str) -> None:
    """Read as systemd reads the file, where a backslash outside of quotes is lost, each is an endpoint."""
    lines = (ROOT / f"debian/{name}.default").read_text().splitlines()
    shown = [
        shlex.split(line.removeprefix("#ENDPOINT="))[0] for line in lines if line.startswith("#ENDPOINT=")
    ]
    memory = MemoryReactor()
    for text in (text for text in shown if text.startswith("tcp:")):
        serverFromString(memory, text).listen(Factory())
    assert "::" in [interface for _, _, _, interface in memory.tcpServers]
    unit = (ROOT / f"debian/{name}.service").read_text()
    (file,) = re.findall(r"--config (/etc/gmesh/(?:\w+)\.toml)", unit)
    assert f"debian/{Path(file).name} etc/gmesh" in (ROOT / f"debian/{name}.install").read_text()


@pytest.mark.skipif(not (ROOT / "debian").is_dir(), reason="the packages are not in this copy")
def test_b22_what_the_file_of_the_authority_offers_is_read(tmp_path: Path) -> None:
    """Each line of the example may be used as it stands."""
    text = (ROOT / "debian/authority.toml").read_text()
    settings = [line.removeprefix("#") for line in text.splitlines() if re.match(r"#\w+ = ", line)]
    file = tmp_path / "authority.toml"
    file.write_text("\n".join(settings))
    assert set(read_settings(file, SETTINGS)) >= {"metrics", "trusted_proxy", "rate", "log_format"}
