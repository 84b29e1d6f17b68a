# SPDX-License-Identifier: MIT
"""Benchmarks: each prints ratios against a floor measured in the same run. See C{docs/contributing.rst}."""
