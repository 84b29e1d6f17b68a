# SPDX-License-Identifier: MIT
"""The gmesh command."""
