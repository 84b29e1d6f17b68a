# SPDX-License-Identifier: MIT
"""The authority daemon."""
