# SPDX-License-Identifier: MIT
"""HTTP routes of the authority, one module a domain."""
