# SPDX-License-Identifier: GPL-2.0-only
"""Cases as pytest collects them; nothing runs.

A case states the rows of the contract that it covers: ``@pytest.mark.contract(area, row...)``.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import paths
from harness.config import Capability
from harness.errors import HarnessError
from harness.session import IMPORTERS

TEST_IMPORTER = "test importer"


@dataclass(frozen=True)
class Collected:
    """A case as pytest collected it."""

    id: str
    """Its id in reports: ``test_file::test_name[parameters]``."""
    where: str
    """Its pytest node id, for messages."""
    rows: tuple[str, ...]
    """The rows of the contract that it covers."""
    importer: str | None = None
    """The importer that it takes."""
    machines: tuple[str, ...] = ()
    """The only machines it runs on; empty: any."""
    needs: Capability | None = None
    """What its importer needs of a machine."""

    @property
    def node(self) -> str:
        """Its node id for ``vfio-harness run``, which works in any directory."""
        return str(paths.TOP / self.where)


class _Collector:
    """Pytest plugin: keeps each collected case and each file that could not be collected."""

    def __init__(self) -> None:
        self.cases: list[Collected] = []
        self.failures: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failures.append(f"{report.nodeid} cannot be collected:\n{report.longreprtext}")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cases += map(_collected, session.items)


def _collected(item: pytest.Item) -> Collected:
    rows = dict.fromkeys(row for mark in item.iter_markers("contract") for row in mark.args[1:])
    machine = item.get_closest_marker("machine")
    importer, needs = _importer(item)
    return Collected(
        id=f"{item.path.stem}::{item.name}",
        where=item.nodeid,
        rows=tuple(rows),
        importer=importer,
        machines=machine.args if machine else (),
        needs=needs,
    )


def _importer(item: pytest.Item) -> tuple[str | None, Capability | None]:
    """Return the importer that a case takes, and the capability that it needs of a machine."""
    name = getattr(getattr(item, "callspec", None), "params", {}).get("importer")
    if name in IMPORTERS:
        return name, IMPORTERS[name].needs
    return (TEST_IMPORTER, "dma-api") if "attach" in getattr(item, "fixturenames", ()) else (None, None)


_UNUSED_PLUGINS = ("cacheprovider", "unraisableexception")
"""The second collects garbage ten times at the end, which takes a second."""


def node_id_of(case: str) -> Path:
    """Return the absolute node id of a case of tests/vm, from its id in reports."""
    module, _, name = case.partition("::")
    return paths.VM_CASES / f"{module}.py::{name}"


def pytest_arguments() -> list[str]:
    """Return pytest's arguments for cases, so that they run alike in a checkout and from a wheel.

    Node ids are relative to the data. Neither an ini file nor a conftest.py above the data counts: a wheel may lie in
    the virtual environment of another project. pytest keeps no cache: the directory of a wheel may be read-only.
    It does not rewrite asserts, which takes a second: cases say what must hold by ``must``.
    """
    unused = [word for plugin in _UNUSED_PLUGINS for word in ("-p", f"no:{plugin}")]
    return ["-c", os.devnull, f"--rootdir={paths.TOP}", f"--confcutdir={paths.TOP}", "--assert=plain", *unused]


def collect(cases: Path = paths.VM_CASES) -> list[Collected]:
    """Collect the cases below ``cases``. Raises HarnessError if a file cannot be collected."""
    collector = _Collector()
    pytest.main(["--collect-only", "-p", "no:terminal", *pytest_arguments(), str(cases)], [collector])
    if collector.failures:
        raise HarnessError("\n".join(collector.failures))
    return collector.cases
