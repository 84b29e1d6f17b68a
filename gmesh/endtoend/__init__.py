# SPDX-License-Identifier: MIT
"""Who is talking: sealed sessions between two ends over the mesh, and datagrams on them."""
