# SPDX-License-Identifier: MIT
"""Makes ``twistd gmesh-authority`` known; the program is in L{gmesh.authority.tap}."""

from gmesh.daemon.interrupts import DaemonMaker

gmesh_authority = DaemonMaker(
    "gmesh authority",
    "gmesh.authority.tap",
    "The Network Authority of a gmesh: admits nodes, issues certificates, publishes CRL and policy.",
    "gmesh-authority",
)
