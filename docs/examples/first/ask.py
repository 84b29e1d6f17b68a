# SPDX-License-Identifier: MIT
import sys

from gmesh.client import BlockingMesh

with BlockingMesh() as mesh:
    print(mesh.request(sys.argv[1], "sum", " ".join(sys.argv[2:]).encode()).decode())
