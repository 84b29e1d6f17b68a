# SPDX-License-Identifier: MIT
"""The page on firewalls says what the daemons and the fronts of the live tests are run with."""

from __future__ import annotations

import re
import shlex
import subprocess
from itertools import takewhile
from pathlib import Path

import pytest
from click.testing import CliRunner
from live.fronts import NGINX, SQUID, needs
from mesh.sockets_world import Authority

from gmesh.cli.init import init
from gmesh.errors import ConfigurationError
from gmesh.mesh.tls import key_pin
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


def says(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a program prints, which ends well."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs("openssl")
def test_the_pin_of_a_certificate_is_what_the_command_of_the_page_prints(tmp_path: Path) -> None:
    """openssl(1) and the node name one key alike."""
    [command] = re.findall(r"``--tls-pin`` \(``(openssl x509 [^`]+)``\)", PAGE.replace("\n", " "))
    _, certificate = Authority(tmp_path).endpoint("anchor.example")
    says("cp", tmp_path / "leaf.pem", tmp_path / "cert.pem")
    assert says("sh", "-c", command, cwd=tmp_path).split()[0] == key_pin(certificate)


def test_the_networks_of_the_page_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each C{gmesh init} of it, as it stands there."""
    commands = re.findall(r"gmesh (init [^`\n]+)", PAGE)
    assert len(commands) == 2
    monkeypatch.chdir(tmp_path)
    for number, command in enumerate(commands):
        done = CliRunner().invoke(init, [f"net{number}", *shlex.split(command)[2:]])
        assert done.exit_code == 0, done.output


@needs("haproxy")
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the packages are not in this copy")
def test_haproxy_takes_the_example() -> None:
    """As it stands in the package."""
    says("haproxy", "-c", "-q", "-f", EXAMPLES / "haproxy-gmesh.cfg")


@needs("nginx")
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the packages are not in this copy")
def test_nginx_takes_the_example(tmp_path: Path) -> None:
    """Within the server of a site."""
    site = tmp_path / "nginx.conf"
    site.write_text(
        f"pid {tmp_path}/pid; events {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:1;"
        f" include {EXAMPLES}/nginx-gmesh.conf; }} }}\n"
    )
    says("nginx", "-t", "-q", "-e", "stderr", "-p", tmp_path, "-c", site)


@needs("squid")
@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the packages are not in this copy")
def test_squid_takes_the_example(tmp_path: Path) -> None:
    """Between what squid itself comes with; its own program for passwords need not be there."""
    text = (EXAMPLES / "squid-gmesh.conf").read_text(encoding="utf-8")
    example = re.sub("/usr/lib/squid/[a-z_]+", "/bin/true", text)
    (tmp_path / "squid.conf").write_text(
        f"http_port 127.0.0.1:3128\npid_filename none\ncoredump_dir {tmp_path}\n"
        f"visible_hostname proxy.invalid\n{example}http_access deny all\n"
    )
    said = says("squid", "-k", "parse", "-f", tmp_path / "squid.conf")
    assert "ERROR" not in said and "FATAL" not in said and "gmesh_known" in said


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the packages are not in this copy")
def test_the_hook_of_certbot_hands_the_files_over(tmp_path: Path) -> None:
    """Those that the node's drop-in names; then the node reads them again."""
    made, bin_directory = tmp_path / "made", tmp_path / "bin"
    for each in (made, bin_directory):
        each.mkdir()
    for name, does in (
        ("install", f'echo "install $*" >>{made}/said'),
        ("systemctl", f'echo "systemctl $*" >>{made}/said'),
    ):
        (bin_directory / name).write_text(f"#!/bin/sh\n{does}\n")
        (bin_directory / name).chmod(0o755)
    environment = {"PATH": f"{bin_directory}:/usr/bin:/bin", "RENEWED_LINEAGE": "/live/anchor.example"}
    says("sh", EXAMPLES / "certbot-gmesh-node", env=environment)
    said = (made / "said").read_text().splitlines()
    served = re.findall(r"=(/etc/gmesh/tls/\w+\.pem)", (EXAMPLES / "node-443.conf").read_text())
    assert len(served) == 3
    for path in served:
        lineage = f"/live/anchor.example/{path.rpartition('/')[2]}"
        assert f"install -m 0640 -g _gmesh-node {lineage} {path}" in said
    assert said[-1].startswith("systemctl") and said[-1].endswith("reload-or-restart gmesh-node")
