# SPDX-License-Identifier: GPL-2.0-only
"""docs/contract.md has the rows of vm-configs/contract.yaml, and no others."""

import re

from harness.cases.contract import Row, contract
from harness.cases.document import PATH, with_tables

DOCUMENT = """# Title
<!-- rows: uapi, from a file -->
| stale |
<!-- end of rows -->
prose
<!-- rows: around, from a file -->
<!-- end of rows -->
"""


def test_the_committed_document_has_the_contracts_rows() -> None:
    committed = PATH.read_text(encoding="utf-8")
    assert committed == with_tables(committed, contract()), "run python -m harness.cases.document"
    assert re.findall(r"^\| `([a-z.0-9-]+)` \|", committed, re.MULTILINE) == list(contract())


def test_a_table_has_the_rows_of_its_section_and_the_prose_stays() -> None:
    rows = {"uapi.region": Row(title="Which regions."), "around.memory": Row(title="No leak.", reason="always judged")}
    made = with_tables(DOCUMENT, rows)
    assert (
        made
        == """# Title
<!-- rows: uapi, from a file -->
| row | rule |
|---|---|
| `uapi.region` | Which regions. |
<!-- end of rows -->
prose
<!-- rows: around, from a file -->
| row | rule |
|---|---|
| `around.memory` | No leak. *No case of its own: always judged.* |
<!-- end of rows -->
"""
    )
    assert with_tables(made, rows) == made
