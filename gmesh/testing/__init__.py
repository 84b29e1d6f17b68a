# SPDX-License-Identifier: MIT
"""A deterministic mesh in one process, for our tests and for users' own."""
