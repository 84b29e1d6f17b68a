# SPDX-License-Identifier: MIT
from gmesh.client import BlockingMesh

with BlockingMesh() as mesh:
    for message in mesh.receive("readings"):
        print(message.source, message.data.decode("utf-8", "replace"), flush=True)
        message.done()
