# SPDX-License-Identifier: MIT
"""Who may be believed: keys, canonical form, signed documents, verification. Pure: no clock, no file."""
