# SPDX-License-Identifier: MIT
"""What programs import to reach services of the mesh by node name."""
