# SPDX-License-Identifier: MIT
"""The example that the documentation shows is a test that passes, run as its reader would run it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_example_passes(tmp_path: Path) -> None:
    """In a directory of its own, with nothing but gmesh and pytest."""
    for file in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(file, tmp_path)
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:pytest_twisted",
            str(tmp_path),
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout


def test_the_documentation_shows_it() -> None:
    """The page includes the file itself, so that it cannot differ."""
    page = (ROOT / "docs" / "testing.rst").read_text()
    assert ".. literalinclude:: examples/test_thermostat.py" in page
    for name in (
        "memory_mesh",
        "engine_mesh",
        "gmesh_seed",
        "ProcessMesh",
        "partition",
        "heal",
        "restart",
        "trace",
    ):
        assert name in page
