# SPDX-License-Identifier: MIT
"""What bytes mean: records, Noise sessions, frames and message bodies. Sans-IO."""
