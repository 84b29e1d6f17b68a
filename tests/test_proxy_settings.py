# SPDX-License-Identifier: MIT
"""Where the password of a proxy may stand, and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.errors import ConfigurationError
from gmesh.proxy_settings import check_shown, read_proxies


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def credentials(file: str = "", **environment: str) -> object:
    proxy = read_proxies("http://p:1", file, environment).choose("h", 1)
    assert proxy is not None
    return proxy.credentials


def test_a_file_and_a_credential_of_systemd(tmp_path: Path) -> None:
    """The file that is named, else the credential of that name; a line end is none of the password."""
    write(tmp_path / "proxy-credentials", "u:from systemd\n", 0o644)
    assert credentials(CREDENTIALS_DIRECTORY=str(tmp_path / "none")) is None
    named = write(tmp_path / "file", "u:from a file\r\n")
    assert credentials(named, CREDENTIALS_DIRECTORY=str(tmp_path)) == ("u", "from a file")


def test_the_credential_of_systemd_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose mode systemd has set."""
    write(tmp_path / "proxy-credentials", "u:from systemd\n", 0o644)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credentials(CREDENTIALS_DIRECTORY=str(tmp_path)) == ("u", "from systemd")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("hunter2", 0o600, "USER:PASSWORD"),
        ("u:hunter2", 0o644, "others can read it"),
        ("u:hunter2\nx", 0o600, "one line"),
    ],
)
def test_a_file_that_is_none_is_named_and_not_shown(tmp_path: Path, text: str, mode: int, said: str) -> None:
    """The line says which file and what is wrong."""
    with pytest.raises(ConfigurationError) as refused:
        credentials(write(tmp_path / "file", text, mode))
    assert said in str(refused.value) and "hunter2" not in str(refused.value) and "file" in str(refused.value)


def test_no_password_on_a_command_line() -> None:
    """There everybody reads it; without one the URL is fine."""
    check_shown("http://p.example:3128")
    with pytest.raises(ConfigurationError, match="--proxy-credentials FILE") as refused:
        check_shown("http://u:hunter2@p.example:3128")
    assert "hunter2" not in str(refused.value)
