# SPDX-License-Identifier: MIT
"""Every command and every option has a man page; groff finds nothing wrong with any."""

from __future__ import annotations

import gzip
import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKER = ROOT / "debian/man/make.py"
JUDGE = ROOT / "tests/packaging/manpages.py"

pytestmark = pytest.mark.skipif(not MAKER.exists(), reason="debian/ is not beside these tests")


def _load(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, as a package has them: a directory a section, each file compressed."""
    made = tmp_path_factory.mktemp("made")
    _load(MAKER).main(made)
    installed = tmp_path_factory.mktemp("man")
    for page in made.iterdir():
        section = installed / f"man{page.suffix[1:]}"
        section.mkdir(exist_ok=True)
        (section / f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes()))
    return installed


def test_every_command_has_its_page(pages: Path) -> None:
    """Each command and daemon has a page that names its options and what is below it; no page is stale."""
    assert _load(JUDGE).main(pages) == ""


def test_a_missing_page_is_noticed(pages: Path, tmp_path: Path) -> None:
    """A page that is not there, one without an option, and one of no command are told."""
    copy = shutil.copytree(pages, tmp_path / "man")
    (copy / "man1/gmesh-key-create.1.gz").unlink()
    shutil.copy(copy / "man1/gmesh-key.1.gz", copy / "man1/gmesh-gone.1.gz")
    status = copy / "man1/gmesh-status.1.gz"
    text = gzip.decompress(status.read_bytes()).replace(rb"\-\-json", b"")
    status.write_bytes(gzip.compress(text))
    assert _load(JUDGE).main(copy).splitlines() == [
        "man1/gmesh-key-create.1.gz",
        "man1/gmesh-status.1.gz: --json",
        "man1/gmesh-gone.1.gz: no such command",
    ]


def test_groff_warns_of_nothing(pages: Path) -> None:
    """No page has a macro or an escape that groff does not know."""
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("groff is not installed; lintian asks it too")
    for page in sorted(pages.rglob("*.gz")):
        run = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-z"],
            input=gzip.decompress(page.read_bytes()),
            capture_output=True,
            timeout=180,
            check=True,
        )
        assert run.stderr == b"", page.name
