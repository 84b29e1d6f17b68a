# SPDX-License-Identifier: MIT
"""The patience of L{gmesh.testing}, for tests of real processes."""

from gmesh.testing.patience import STEP, Patience

__all__ = ["STEP", "Patience"]
