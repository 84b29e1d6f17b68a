# SPDX-License-Identifier: MIT
"""Options and configuration file: the same names, options first, errors that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.errors import ConfigurationError
from gmesh.node.configuration import Configuration, check_address, read_configuration


def test_options_win_over_the_file(tmp_path: Path) -> None:
    """What is given on the command line replaces the file's value."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/file"\nlisten = ["tcp:1", "tcp:2"]\npeer = ["a:1"]\n')
    options = {"state": "/option", "listen": [], "peer": ["b:2", "[::1]:3"], "control": None, "advertise": []}
    assert read_configuration(file, options) == Configuration(
        state=Path("/option"), listen=("tcp:1", "tcp:2"), peer=("b:2", "[::1]:3")
    )


def test_default_control_endpoint() -> None:
    """The local API is a socket in the state directory that only owner and group may use."""
    assert Configuration(Path("/var/lib/g:1")).control_endpoint() == r"unix:/var/lib/g\:1/node.sock:mode=660"
    assert Configuration(Path("/x"), control="unix:/run/n").control_endpoint() == "unix:/run/n:mode=660"
    open_to_all = Configuration(Path("/x"), control="unix:/run/n:mode=666")
    assert open_to_all.control_endpoint() == "unix:/run/n:mode=666"
    assert Configuration(Path("/x"), control="tcp:1").control_endpoint() == "tcp:1"


def test_field_t16_metrics_are_for_this_host_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    """A bare TCP port is one of loopback."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/x"\nmetrics = ["tcp:9443", "tcp:9443:interface=0.0.0.0", "unix:/m"]\n')
    assert read_configuration(file, {}).metrics_endpoints() == [
        "tcp:9443:interface=127.0.0.1",
        "tcp:9443:interface=0.0.0.0",
        "unix:/m",
    ]


def test_stub(tmp_path: Path) -> None:
    """A switch of the file is true or false; the option turns it on."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/s"\nstub = false\n')
    assert not read_configuration(file, {"stub": 0}).stub
    assert read_configuration(file, {"stub": 1}).stub
    file.write_text('state = "/s"\nstub = true\n')
    assert read_configuration(file, {}).stub


def test_who_may_accept_a_service_is_a_table(tmp_path: Path) -> None:
    """By the names of services, which keep their dashes; C{*} is all others."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/s"\n[bind]\nweb-1 = "root"\n"*" = "0"\n')
    assert read_configuration(file, {}).bind == {"web-1": "root", "*": "0"}
    file.write_text('state = "/s"\n')
    assert read_configuration(file, {}).bind == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("listne = []", "unknown key 'listne': did you mean listen?"),
        ("zzzzz = 1", "unknown key 'zzzzz': there are state, listen, control, advertise, peer"),
        ('listen = "tcp:1"', "listen must be a list of strings"),
        ("state = 1", "state must be a string"),
        ('stub = "yes"', "stub must be true or false"),
        ('metrics = "tcp:1"', "metrics must be a list of strings"),
        ('log-fromat = "json"', "unknown key 'log_fromat': did you mean log_format?"),
        ('state = "x"\nlog_format = "xml"', "'xml' is not a log format: there are text, json"),
        ('state = "x"\nread_group = "nobody-has-this"', "there is no group 'nobody-has-this' on this host"),
        ("state = ", "is not TOML"),
        ('state = "x"\nbind = "web"', "bind must be a table of strings"),
        ('state = "x"\n[bind]\nweb = 1', "bind must be a table of strings"),
        ('state = "x"\n[bind]\n_echo = "0"', "bind: '_echo': a service is a-z, 0-9 and -"),
        ('state = "x"\n[bind]\ngmesh-bench = "0"', "gmesh-bench is a service of gmesh itself"),
        ('state = "x"\n[bind]\nweb = "nobody-has-this"', "there is no group 'nobody-has-this' on this host"),
        ('peer = ["nowhere"]\nstate = "x"', "'nowhere' is not HOST:PORT"),
        ("", "give --state DIR"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake is one line that names it."""
    file = tmp_path / "node.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read_configuration(file, {})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("a:1", "10.0.0.1:65535", "[2001:db8::1]:7443", "anchor-1.example.org:7443"),
        *("tcp://a:1", "tls://a", "tls://a:8443", "wss://a/mesh", "wss://[2001:db8::1]:8443/"),
    ],
)
def test_addresses(text: str) -> None:
    """HOST:PORT with names, IPv4 and bracketed IPv6; and URLs."""
    assert check_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        ":1",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "2001:db8::1:7443",
        "a b:1",
        "ä:1",
        "[]:1",
        "tls:a:1",
        "tcp:a:1",
        "tcp://a",
    ],
)
def test_bad_addresses(text: str) -> None:
    """What cannot be dialled is refused when it is given, not when it is used."""
    with pytest.raises(ConfigurationError):
        check_address(text)


def test_d15_a_file_saved_by_an_editor_of_windows(tmp_path: Path) -> None:
    """The mark before the text and its line ends are passed over; UTF-16 is refused with what to do."""
    file = tmp_path / "node.toml"
    file.write_bytes(b'\xef\xbb\xbfstate = "/s"\r\nlisten = ["tcp:1"]\r\n')
    assert read_configuration(file, {}) == Configuration(Path("/s"), listen=("tcp:1",))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        file.write_bytes("\ufeff".encode(encoding)[-2:] + 'state = "/s"'.encode(encoding)[-24:])
        with pytest.raises(ConfigurationError, match="is UTF-16 text: save it as UTF-8"):
            read_configuration(file, {})


@pytest.mark.parametrize("text", ["stub = " + "9" * 5000, "peer = " + "[" * 5000])
def test_d15_numbers_and_nesting_without_end(tmp_path: Path, text: str) -> None:
    """Neither is a traceback."""
    (tmp_path / "node.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="is not TOML"):
        read_configuration(tmp_path / "node.toml", {})


def test_d9_a_peer_may_be_named_by_an_interface_and_what_is_advertised_may_not(tmp_path: Path) -> None:
    """The one is dialled here, the other by others; a link-local address alone leads nowhere."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/s"\npeer = ["[fe80::1%eth0]:7443"]\n')
    assert read_configuration(file, {}).peer == ("[fe80::1%eth0]:7443",)
    for line, told in (
        ('peer = ["[fe80::1]:7443"]', r"takes the interface: \[fe80::1%eth0\]:7443"),
        ('advertise = ["[fe80::1%eth0]:7443"]', "an interface of this host means nothing to others"),
        ('advertise = ["[fe80::1]:7443"]', "others cannot dial a link-local address"),
    ):
        file.write_text(f'state = "/s"\n{line}\n')
        with pytest.raises(ConfigurationError, match=told):
            read_configuration(file, {})
