# SPDX-License-Identifier: MIT
"""Makes endpoint strings known that begin with ``gmesh:``; they are read in L{gmesh.client.parsers}."""

from gmesh.client.parsers import ClientParser, ServerParser

gmesh_client_parser = ClientParser()
gmesh_server_parser = ServerParser()
