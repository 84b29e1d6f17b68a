# SPDX-License-Identifier: MIT
"""Tables of the configuration file: what they give, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmesh.errors import ConfigurationError
from gmesh.node.configuration import read_configuration
from gmesh.node.gateways.settings import Exposure, Forward, ProxySettings, Target, read_target

FILE = """
state = "/s"

[[expose]]
service = "ssh"
to = "tcp:127.0.0.1:22"

[[expose]]
service = "plc"
to = "tcp:192.0.2.7:502"
proxy-protocol = 2
connect_timeout = 3

[[forward]]
listen = "tcp:2222:interface=127.0.0.1"
to = "pump-07:ssh"

[[forward]]
listen = "systemd:domain=INET:name=pump-ssh"
to = "pump-07.gmesh:ssh"

[proxy]
listen = ["tcp:8118", "unix:/run/gmesh-node/proxy.sock"]
"""


def test_the_tables_of_a_file(tmp_path: Path) -> None:
    """Each as it stands, with what it leaves out filled in."""
    file = tmp_path / "node.toml"
    file.write_text(FILE)
    found = read_configuration(file, {})
    assert found.expose == (
        Exposure("ssh", Target("127.0.0.1", 22)),
        Exposure("plc", Target("192.0.2.7", 502), proxy_protocol=2, connect_timeout=3.0),
    )
    assert found.forward == (
        Forward("tcp:2222:interface=127.0.0.1", "pump-07", "ssh"),
        Forward("systemd:domain=INET:name=pump-ssh", "pump-07", "ssh"),
    )
    assert found.proxy == ProxySettings(
        ("tcp:8118:interface=127.0.0.1", "unix:/run/gmesh-node/proxy.sock:mode=660")
    )


def test_a_bare_port_is_one_of_loopback(tmp_path: Path) -> None:
    """Nobody opens a service of another node to a whole street by leaving something out."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/s"\n[[forward]]\nlisten = "tcp6:22"\nto = "b:ssh"\n')
    assert read_configuration(file, {}).forward == (Forward(r"tcp6:22:interface=\:\:1", "b", "ssh"),)


def test_there_is_no_proxy_unless_it_is_asked_for(tmp_path: Path) -> None:
    """And nothing is exposed or forwarded."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/s"\n')
    found = read_configuration(file, {})
    assert (found.expose, found.forward, found.proxy.listen) == ((), (), ())


def test_others_may_use_the_proxy_where_that_is_said(tmp_path: Path) -> None:
    """The word is anyone."""
    file = tmp_path / "node.toml"
    file.write_text('state = "/s"\n[proxy]\nlisten = ["tcp:8118:interface=0.0.0.0"]\nanyone = true\n')
    assert read_configuration(file, {}).proxy.listen == ("tcp:8118:interface=0.0.0.0",)


EXPOSE = '[[expose]]\nservice = "web"\nto = "tcp:127.0.0.1:80"\n'
FORWARD = '[[forward]]\nlisten = "tcp:2222"\nto = "b:ssh"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EXPOSE + "proxi_protocol = 2", "expose: unknown key 'proxi_protocol': did you mean proxy_protocol?"),
        ('[[expose]]\nservice = "web"', "[[expose]] lacks to"),
        ('[expose]\nservice = "web"', "expose must be a table: [[expose]]"),
        ('expose = "web"', "expose must be a table: [[expose]]"),
        ("[[proxy]]\nanyone = true", "proxy must be a table: [proxy]"),
        (EXPOSE + 'connect_timeout = "1"', "connect_timeout must be a number"),
        (EXPOSE + "connect_timeout = 0", "connect_timeout must be above 0, at most 30"),
        (EXPOSE + "proxy_protocol = 1", "proxy_protocol 1 cannot be spoken, only 2"),
        (EXPOSE + "proxy_protocol = true", "proxy_protocol must be a whole number"),
        (EXPOSE + EXPOSE, "the service web is exposed twice"),
        (EXPOSE.replace("web", "_echo"), "'_echo' cannot be exposed"),
        (
            EXPOSE.replace("web", "gmesh-bench"),
            "'gmesh-bench' cannot be exposed: gmesh-bench is a service of gmesh itself",
        ),
        (EXPOSE.replace("tcp:127.0.0.1:80", "udp:127.0.0.1:53"), "is none of tcp:HOST:PORT"),
        (EXPOSE.replace("tcp:127.0.0.1:80", "tls:127.0.0.1:53"), "is none of tcp:HOST:PORT"),
        (EXPOSE.replace("tcp:127.0.0.1:80", "unix:relative"), "is none of tcp:HOST:PORT"),
        (EXPOSE.replace("tcp:127.0.0.1:80", "unix:/" + 107 * "x"), "at most 107 bytes"),
        (FORWARD.replace("b:ssh", "ssh"), "'ssh' is not NODE:SERVICE"),
        (FORWARD.replace("b:ssh", "b:_x"), "'_x' cannot name a service"),
        (FORWARD.replace("tcp:2222", "udp:53"), "udp is not forwarded, only byte streams are"),
        (FORWARD.replace("tcp:2222", "ssl:1"), "a forward listens on one of tcp, tcp6, unix, systemd"),
        ('[proxy]\nlisten = ["tcp:1:interface=0.0.0.0"]', "the proxy is for this host; say anyone = true"),
        ('[proxy]\nlisten = ["tcp:1:interface="]', "the proxy is for this host; say anyone = true"),
        ('[proxy]\nlisten = ["ssl:1"]', "a proxy listens on one of tcp, tcp6, unix, systemd"),
        ('[proxy]\nlisten = "tcp:1"', "listen must be a list of strings"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    """It names the table, the key and what may stand there."""
    file = tmp_path / "node.toml"
    file.write_text(f'state = "/s"\n{text}\n')
    with pytest.raises(ConfigurationError) as refused:
        read_configuration(file, {})
    assert message in refused.value.detail


@pytest.mark.parametrize(
    "text", ["tcp:127.0.0.1:22", "tcp:[fd00::1]:502", "tcp:plc.example:502", "unix:/run/x"]
)
def test_a_target_reads_as_it_is_written(text: str) -> None:
    """For lists and for the log."""
    assert str(read_target(text)) == text
