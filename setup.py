# SPDX-License-Identifier: MIT
"""Build script; everything declarative is in setup.cfg."""

from setuptools import setup
from setuptools.command.egg_info import egg_info


class EggInfo(egg_info):
    """
    Leave ``twisted`` out of top_level.txt.

    We install modules into ``twisted/plugins``; a tool that removes what top_level.txt
    names would otherwise remove Twisted itself.
    """

    def run(self) -> None:
        """Write the metadata, then drop the name that is not ours."""
        super().run()
        with open(f"{self.egg_info}/top_level.txt", "w") as stream:
            stream.write("gmesh\n")


setup(cmdclass={"egg_info": EggInfo})
