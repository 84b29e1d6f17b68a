# SPDX-License-Identifier: MIT
"""Which way: link-state records and database, shortest paths, path choice. Sans-IO."""
