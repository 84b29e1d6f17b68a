# SPDX-License-Identifier: MIT
"""Links to neighbours: Noise and mesh protocols, neighbours, dialling, flooding, gossip, forwarding."""
