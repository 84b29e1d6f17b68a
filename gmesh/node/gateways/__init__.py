# SPDX-License-Identifier: MIT
"""What joins programs that know nothing of the mesh to its streams: exposures, forwards, the proxy."""
