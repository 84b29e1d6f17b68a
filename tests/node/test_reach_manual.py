# SPDX-License-Identifier: MIT
"""The page on firewalls says what the daemons and the fronts of the live tests are run with."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest
from live.fronts import NGINX, SQUID

from gmesh.errors import ConfigurationError
from gmesh.node.configuration import check_address
from gmesh.node.listening import mesh_server
from gmesh.node.tap import Options

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations-reach.rst").read_text(encoding="utf-8")
EXAMPLES = ROOT / "debian" / "examples"


def directives(text: str) -> list[str]:
    """What nginx is told below the path of the mesh, ports apart."""
    block = text.replace("{{", "{").replace("}}", "}").partition("location /mesh {")[2].splitlines()
    lines = list(takewhile(lambda line: line != "}", (line.strip() for line in block)))
    return [re.sub(r"(127.0.0.1|{site}):\S+;", "127.0.0.1:PORT;", line) for line in lines if line]


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the packages are not in this copy")
def test_nginx_is_told_the_same_everywhere() -> None:
    """On the page, in the example of Debian, and in the live test."""
    example = (EXAMPLES / "nginx-gmesh.conf").read_text(encoding="utf-8")
    assert directives(PAGE) == directives(example) == directives(NGINX)
    assert len(directives(NGINX)) == 6


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the packages are not in this copy")
def test_squid_lets_through_to_one_port_everywhere() -> None:
    """CONNECT and nothing but the port of the anchors."""
    example = (EXAMPLES / "squid-gmesh.conf").read_text(encoding="utf-8")
    assert "http_access allow CONNECT" in PAGE and "http_access allow CONNECT" in example
    assert "port 443" in PAGE and "port 443" in example and "http_access deny CONNECT !tls" in SQUID


def listening() -> list[str]:
    files = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.conf"))
    found = re.findall(r"(?:--listen |ENDPOINT=)((?:ws:|haproxy:)*(?:tls|tcp):[^`\s]+)", PAGE + files)
    return sorted({text.rstrip(".") for text in found if "..." not in text})


@pytest.mark.parametrize("text", listening())
def test_what_is_listened_on_is_an_endpoint(text: str) -> None:
    """Its files are not here; all else is read."""
    try:
        mesh_server(None, text)
    except ConfigurationError as error:
        assert "privateKey=" in text and "No such file" in str(error)


def test_enough_was_found() -> None:
    """TLS, a WebSocket, one port for both."""
    found = listening()
    assert len(found) >= 4 and any(text.startswith("ws:tls:") for text in found)


@pytest.mark.parametrize("text", sorted(set(re.findall(r"``((?:tls|wss)://[a-z./]+)``", PAGE))))
def test_addresses_of_the_page(text: str) -> None:
    """Are taken by options."""
    assert check_address(text) == text


def test_every_option_of_the_page_is_one() -> None:
    """Of the node, or of the commands beside it on the page."""
    known = {name for name, *_ in Options.optParameters} | {name for name, *_ in Options.optFlags}
    known |= {name.removeprefix("opt_").replace("_", "-") for name in dir(Options) if name.startswith("opt_")}
    known |= {"network", "anchor", "authority-url", "trusted-proxy"}
    assert set(re.findall(r"--([a-z][a-z-]+)", PAGE)) <= known
