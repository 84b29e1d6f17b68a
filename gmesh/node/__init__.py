# SPDX-License-Identifier: MIT
"""The node daemon."""
