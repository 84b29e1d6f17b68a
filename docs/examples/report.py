# SPDX-License-Identifier: MIT
"""Reports a reading to another node: python report.py boiler 21.5"""

import sys

from gmesh.client import BlockingMesh
from gmesh.errors import SendRefused

with BlockingMesh() as mesh:
    try:
        answer = mesh.request(sys.argv[1], "readings", sys.argv[2].encode())
    except SendRefused as refusal:
        sys.exit(f"not reported: {refusal.detail}")
    print(answer.decode())
