# SPDX-License-Identifier: MIT
"""Durable state of the authority: SQLite through adbapi."""
