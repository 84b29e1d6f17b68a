# SPDX-License-Identifier: MIT
"""Byte streams over sealed sessions."""
