# SPDX-License-Identifier: MIT
"""Who is talking: one association per far node, sealed sessions in it, and datagrams on them."""
