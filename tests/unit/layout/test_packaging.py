# SPDX-License-Identifier: GPL-2.0-only
"""A wheel has the files that the harness reads from its own directory."""

import tomllib

from harness.paths import TOP

PACKAGE = TOP / "harness"
MAKE_ONLY = {PACKAGE / "host" / "install-packages.sh"}
"""Run by the Makefile of a checkout only."""


def test_every_data_file_is_package_data() -> None:
    patterns = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["harness"]
    packaged = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert files - MAKE_ONLY == packaged
