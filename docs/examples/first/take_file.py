# SPDX-License-Identifier: MIT
import shutil
import sys

from gmesh.client import BlockingMesh

with BlockingMesh() as mesh, open(sys.argv[1], "wb") as file, next(mesh.listen("files")) as stream:
    shutil.copyfileobj(stream, file)
