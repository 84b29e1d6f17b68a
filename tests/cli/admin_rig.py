# SPDX-License-Identifier: MIT
"""An operator of a network whose authority is the far end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trust.network import Network, key

from gmesh.trust.documents import AuditHead


def show_documents(end: Any, network: Network, audit: AuditHead | None = None) -> None:
    """What this authority publishes."""
    end.answers["GET /genesis"] = end.answers["GET /genesis/1"] = (200, network.genesis.encode())
    status = network.status() if audit is None else network.status(audit=audit)
    end.answers["GET /status"] = (200, status.encode())
    end.answers["GET /crl"] = (200, network.crl().encode())
    end.answers["GET /policy"] = (200, network.policy().encode())


def make_operator(directory: Path, network: Network, url: str) -> Path:
    """The directory that C{gmesh init} makes for one."""
    directory.mkdir()
    (directory / "operator.key").touch(0o600)
    (directory / "operator.key").write_bytes(key("operator").to_pem())
    (directory / "genesis.json").write_bytes(network.genesis.encode())
    (directory / "authority.json").write_text(json.dumps({"urls": [url]}))
    return directory
