# SPDX-License-Identifier: MIT
"""Makes ``twistd gmesh-authority`` known; the program is in L{gmesh.authority.tap}."""

from twisted.application.service import ServiceMaker

gmesh_authority = ServiceMaker(
    "gmesh authority",
    "gmesh.authority.tap",
    "The Network Authority of a gmesh: admits nodes, issues certificates, publishes CRL and policy.",
    "gmesh-authority",
)
