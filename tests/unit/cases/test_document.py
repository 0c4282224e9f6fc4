# SPDX-License-Identifier: GPL-2.0-only
"""docs/contract.md has the rows of vm-configs/contract.yaml, and no others."""

import re

from harness.cases.contract import Contract, Pending, Row, contract, read
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
    assert committed == with_tables(committed, read()), "run python -m harness.cases.document"
    assert re.findall(r"^\| `([a-z]+\.[a-z0-9-]+)` \|", committed, re.MULTILINE) == list(contract())


def test_a_table_has_the_rows_of_its_section_and_the_prose_stays() -> None:
    rows = {"uapi.region": Row(title="Which regions."), "around.memory": Row(title="No leak.", reason="always judged")}
    made = with_tables(DOCUMENT, Contract(rows=rows))
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
    assert with_tables(made, Contract(rows=rows)) == made


def test_a_pending_change_is_at_its_rows_and_in_the_table() -> None:
    made = with_tables(
        "<!-- rows: uapi -->\n<!-- end of rows -->\n<!-- rows: pending -->\n<!-- end of rows -->\n",
        Contract(
            pending={"mmap": Pending(series="[PATCH] Add mmap", message_id="1@x", changes="It maps.", unprobed="why")},
            rows={"uapi.old": Row(title="No.", until="mmap"), "uapi.new": Row(title="Yes.", since="mmap")},
        ),
    )
    assert "| `uapi.old` | No. *Until `mmap` (section 5).* |" in made
    assert "| `uapi.new` | Yes. *Since `mmap` (section 5).* |" in made
    assert "| `mmap` | [PATCH] Add mmap, `1@x` | It maps. *Not probed: why.* | `uapi.old` | `uapi.new` |" in made
