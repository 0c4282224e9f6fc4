# SPDX-License-Identifier: GPL-2.0-only
"""The tables of docs/contract.md, made from vm-configs/contract.yaml.

``python -m harness.cases.document`` rewrites them; the prose around them is written by hand. A unit test fails if the
committed document differs.
"""

import re
from collections.abc import Iterator

from harness import paths
from harness.cases.contract import Contract, Row, read

PATH = paths.TOP / "docs" / "contract.md"
TABLE = re.compile(r"(<!-- rows: (\w+)[^>]*-->\n).*?(<!-- end of rows -->)", re.DOTALL)
PENDING = "pending"
"""The section that lists the pending changes instead of rows."""


def with_tables(document: str, contract: Contract) -> str:
    """Return the document with its tables made from the contract.

    A table stands between ``<!-- rows: SECTION -->`` and ``<!-- end of rows -->``.
    """
    return TABLE.sub(lambda match: match[1] + _table(match[2], contract) + match[3], document)


def _table(section: str, contract: Contract) -> str:
    lines = _pending(contract) if section == PENDING else _rows(section, contract.rows)
    return "".join(line.replace("\n", " ") + "\n" for line in lines)


def _rows(section: str, rows: dict[str, Row]) -> Iterator[str]:
    yield from ("| row | rule |", "|---|---|")
    for name, row in rows.items():
        if name.startswith(f"{section}."):
            yield f"| `{name}` | {row.title}{_when(row)}{_reason(row)} |"


def _when(row: Row) -> str:
    if row.until:
        return f" *Until `{row.until}` (section 5).*"
    return f" *Since `{row.since}` (section 5).*" if row.since else ""


def _reason(row: Row) -> str:
    return f" *No case of its own: {row.reason}.*" if row.reason else ""


def _pending(contract: Contract) -> Iterator[str]:
    yield from ("| change | series | what it changes | rows until it | rows since it |", "|---|---|---|---|---|")
    for name, change in contract.pending.items():
        until = ", ".join(f"`{row}`" for row, each in contract.rows.items() if each.until == name)
        since = ", ".join(f"`{row}`" for row, each in contract.rows.items() if each.since == name)
        unprobed = f" *Not probed: {change.unprobed}.*" if change.unprobed else ""
        yield f"| `{name}` | {change.series}, `{change.message_id}` | {change.changes}{unprobed} | {until} | {since} |"


if __name__ == "__main__":
    PATH.write_text(with_tables(PATH.read_text(encoding="utf-8"), read()), encoding="utf-8")
