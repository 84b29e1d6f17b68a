# SPDX-License-Identifier: MIT
"""Sphinx settings: plain, no extensions; for `make docs` a warning is an error."""

from gmesh import __version__

project = "gmesh"
author = "the gmesh authors"
version = release = __version__
extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "A permissioned mesh for fleets of appliances"}
