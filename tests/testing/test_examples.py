# SPDX-License-Identifier: MIT
"""The examples that the documentation shows are tests that pass, run as their reader would run them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_documented_examples_pass(tmp_path: Path) -> None:
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
        timeout=180,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "11 passed" in ended.stdout


def test_the_documentation_shows_it() -> None:
    """The page includes the files themselves, so that they cannot differ, and names what there is."""
    page = (ROOT / "docs" / "testing.rst").read_text()
    for file in (ROOT / "docs" / "examples").glob("test_*.py"):
        assert f".. literalinclude:: examples/{file.name}" in page
    for name in (
        "memory_mesh",
        "engine_mesh",
        "gmesh_seed",
        "ProcessMesh",
        "partition",
        "heal",
        "restart",
        "silence",
        "skew",
        "slow",
        "tampers",
        "drain",
        "trace",
    ):
        assert name in page
