# SPDX-License-Identifier: MIT
"""The local API: what programs on this machine, the command line first, may ask of the node."""
