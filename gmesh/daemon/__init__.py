# SPDX-License-Identifier: MIT
"""What both daemons share."""
