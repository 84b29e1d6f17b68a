# SPDX-License-Identifier: MIT
"""gmesh: a permissioned peer-to-peer mesh for fleets of appliances, built on Twisted."""

__all__ = ["__version__"]

__version__ = "0.1.0"
