# SPDX-License-Identifier: MIT
import sys

from gmesh.client import BlockingMesh

with BlockingMesh() as mesh:
    mesh.send(sys.argv[1], "readings", sys.argv[2].encode())
