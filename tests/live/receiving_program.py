# SPDX-License-Identifier: MIT
"""
A program that receives with acknowledgements: SOCKET SERVICE RECORD SECONDS.

What it has dealt with is a line in the file RECORD before it acknowledges; each takes it so many seconds.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

from gmesh.testing.processes import LocalConnection


def main(path: str, service: str, record: str, seconds: str) -> None:
    """Receive until killed."""
    lines, answers = LocalConnection(Path(path), None), LocalConnection(Path(path))
    lines.request("GET", f"/v1/receive?service={service}&ack=1")
    stream = lines.getresponse()
    with open(record, "a", encoding="ascii") as dealt_with:
        sys.stdout.write("receiving\n")
        sys.stdout.flush()
        while line := stream.readline():
            message = json.loads(line)
            time.sleep(float(seconds))
            dealt_with.write(base64.b64decode(message["data"]).decode("ascii") + "\n")
            dealt_with.flush()
            answers.request("POST", "/v1/receive/ack", json.dumps({"ids": [message["id"]]}))
            answers.getresponse().read()


if __name__ == "__main__":
    main(*sys.argv[1:])
