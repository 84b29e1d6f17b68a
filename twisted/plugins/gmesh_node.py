# SPDX-License-Identifier: MIT
"""Makes ``twistd gmesh-node`` known; the program is in L{gmesh.node.tap}."""

from twisted.application.service import ServiceMaker

gmesh_node = ServiceMaker(
    "gmesh node",
    "gmesh.node.tap",
    "A node of a gmesh: meets its peers over Noise, finds routes, carries sealed messages.",
    "gmesh-node",
)
