# SPDX-License-Identifier: GPL-2.0-only
"""Cases as pytest collects them."""

from pathlib import Path

import pytest

from harness.cases.collect import collect
from harness.errors import HarnessError

CASE = """
import pytest

size = pytest.mark.contract("uapi", "uapi.size")

@pytest.mark.contract("uapi", "uapi.region")
@pytest.mark.parametrize("importer", ["rxe", pytest.param("iommufd+edu", marks=size)])
def test_it(importer): ...

@pytest.mark.contract("importers", "uapi.region")
@pytest.mark.machine("switch")
def test_that(attach): ...

@pytest.fixture
def attach(): ...
"""


def test_cases_are_collected_with_the_rows_of_all_their_markers(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(CASE)
    rxe, edu, that = collect(tmp_path)
    assert (rxe.id, rxe.importer, rxe.rows) == ("test_x::test_it[rxe]", "rxe", ("uapi.region",))
    assert set(edu.rows) == {"uapi.region", "uapi.size"}
    assert (that.importer, that.needs, that.machines) == ("test importer", "dma-api", ("switch",))


def test_a_file_that_cannot_be_collected_is_reported(tmp_path: Path) -> None:
    (tmp_path / "test_y.py").write_text("import no_such_module\n")
    with pytest.raises(HarnessError, match="no_such_module"):
        collect(tmp_path)
