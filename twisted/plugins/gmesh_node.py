# SPDX-License-Identifier: MIT
"""Makes ``twistd gmesh-node`` known; the program is in L{gmesh.node.tap}."""

from gmesh.daemon.interrupts import DaemonMaker

gmesh_node = DaemonMaker(
    "gmesh node",
    "gmesh.node.tap",
    "A node of a gmesh: meets its peers over Noise, finds routes, carries sealed messages.",
    "gmesh-node",
)
