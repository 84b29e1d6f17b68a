# SPDX-License-Identifier: MIT
"""The options of C{twistd gmesh-authority} and its configuration file, with the same names."""

from __future__ import annotations

import time
from ipaddress import ip_network
from pathlib import Path

import pytest
from authority.state_files import Keys, write_state
from twisted.python.usage import UsageError

from gmesh.authority.options import Options
from gmesh.authority.rate_limit import RequestRate

EVERYTHING = """
state = "/s"
listen = ["tcp:1", "tcp:2"]
metrics = ["tcp:3"]
host = ["lab"]
trusted-proxy = ["10.0.0.1"]
rate = "60/7"
key_rate = "61/8"
failure-rate = "62/9"
connections = 5
log_format = "json"
passphrase_file = "/p"
"""


def parsed(*arguments: object) -> Options:
    options = Options()
    options.parseOptions([str(argument) for argument in arguments])
    return options


def test_b22_every_option_may_stand_in_the_file(tmp_path: Path) -> None:
    """With dashes or underscores; what stands in neither is as without a file."""
    file = tmp_path / "authority.toml"
    file.write_text(EVERYTHING)
    options = parsed("--config", file)
    assert (options["state"], options["listen"], options["metrics"]) == ("/s", ["tcp:1", "tcp:2"], ["tcp:3"])
    assert options["trusted-proxies"] == [ip_network("10.0.0.1")]
    assert options["rate"] == RequestRate(7, 60)
    assert (options["key-rate"], options["failure-rate"]) == (RequestRate(8, 61), RequestRate(9, 62))
    assert (options["connections"], options["log-format"], options["host"]) == (5, "json", ["lab"])
    assert options["passphrase-file"] == "/p"
    file.write_text('state = "/s"\n')
    bare, plain = parsed("--config", file), parsed("--state", "/s")
    assert {name: value for name, value in bare.items() if name != "config"} == {
        name: value for name, value in plain.items() if name != "config"
    }
    assert plain["connections"] == 64 and plain["rate"] == RequestRate(200, 1200)


def test_b22_options_win_over_the_file(tmp_path: Path) -> None:
    """Also where they say what would be so without a file."""
    file = tmp_path / "authority.toml"
    file.write_text(EVERYTHING)
    options = parsed(
        "--config", file, "--state", "/o", "--listen", "tcp:9", "--trusted-proxy", "10.0.0.2",
        "--rate", "1200/200", "--connections", "64", "--log-format", "text",
    )  # fmt: skip
    assert (options["state"], options["listen"], options["log-format"]) == ("/o", ["tcp:9"], "text")
    assert options["trusted-proxies"] == [ip_network("10.0.0.2")]
    assert (options["rate"], options["connections"]) == (RequestRate(200, 1200), 64)
    assert options["metrics"] == ["tcp:3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("listne = []", r"unknown key 'listne': did you mean listen\?"),
        ("listen = 1", "listen must be a list of strings"),
        ("connections = true", "connections must be a whole number"),
        ("drain = 601", "drain: --drain must be a whole number of seconds, at most 600"),
        ("connections = -1", "connections: --connections must be a whole number"),
        ('rate = "fast"', "rate: must be PER_MINUTE"),
        ('trusted_proxy = ["proxy.example"]', "trusted_proxy: --trusted-proxy proxy.example: must be an IP"),
        ("state = ", "is not TOML"),
    ],
)
def test_b22_what_is_wrong_with_the_file_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    """It names the file and the key."""
    file = tmp_path / "authority.toml"
    file.write_text(text + "\n")
    with pytest.raises(SystemExit, match=f"^gmesh-authority: .*authority.toml.*{told}") as ended:
        parsed("--config", file, "--state", "/s")
    assert "\n" not in str(ended.value)


def test_b22_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that would keep the daemon from starting ends with one line, without starting anything."""
    state = tmp_path / "authority"
    write_state(state, Keys(), int(time.time()))
    before = sorted(path.name for path in state.iterdir())
    with pytest.raises(SystemExit) as ended:
        parsed("--state", state, "--check")
    assert ended.value.code == 0
    assert f"{state} and its configuration are good: the authority of" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'tcq:1' is not an endpoint to listen on"):
        parsed("--state", state, "--listen", "tcq:1", "--check")
    for name, text in (("approvals.json", "{"), ("operators.json", "[]")):
        good = (state / name).read_text() if (state / name).exists() else None
        (state / name).write_text(text)
        with pytest.raises(SystemExit, match=name):
            parsed("--state", state, "--check")
        (state / name).unlink() if good is None else (state / name).write_text(good)
    (state / "authority.key").unlink()
    with pytest.raises(SystemExit, match=r"holds no authority\.key"):
        parsed("--state", state, "--check")
    assert sorted(path.name for path in state.iterdir()) == [name for name in before if "key" not in name]


def test_a_directory_is_asked_for() -> None:
    """On the command line or in the file."""
    with pytest.raises(UsageError, match="--state DIR is needed"):
        parsed()
