# SPDX-License-Identifier: MIT
"""Who is connected: Noise and mesh protocols, peers, dialling, flooding, forwarding."""
