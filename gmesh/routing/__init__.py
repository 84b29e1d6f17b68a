# SPDX-License-Identifier: MIT
"""Which way: a signed link-state database, shortest paths over it and the choice of a path; no I/O."""
