# SPDX-License-Identifier: MIT
import shutil
import sys

from gmesh.client import BlockingMesh

with BlockingMesh() as mesh, open(sys.argv[2], "rb") as file, mesh.open(sys.argv[1], "files") as stream:
    shutil.copyfileobj(file, stream)
