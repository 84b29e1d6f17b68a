# SPDX-License-Identifier: MIT
pytest_plugins = ["gmesh.testing.pytest_plugin"]
