# SPDX-License-Identifier: MIT
"""The patience of C{gmesh.testing}, for tests of real processes."""

from gmesh.testing.patience import STEP
from gmesh.testing.patience import ProcessPatience as Patience

__all__ = ["STEP", "Patience"]
