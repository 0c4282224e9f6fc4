# SPDX-License-Identifier: GPL-2.0-only
"""The tables of docs/contract.md, made from vm-configs/contract.yaml.

``python -m harness.cases.document`` rewrites them; the prose around them is written by hand. A unit test fails if the
committed document differs.
"""

import re

from harness import paths
from harness.cases.contract import Row, contract

PATH = paths.TOP / "docs" / "contract.md"
TABLE = re.compile(r"(<!-- rows: (\w+)[^>]*-->\n).*?(<!-- end of rows -->)", re.DOTALL)


def with_tables(document: str, rows: dict[str, Row]) -> str:
    """Return the document with its tables made from ``rows``.

    A table stands between ``<!-- rows: SECTION -->`` and ``<!-- end of rows -->``.
    """
    return TABLE.sub(lambda match: match[1] + _table(match[2], rows) + match[3], document)


def _table(section: str, rows: dict[str, Row]) -> str:
    lines = ["| row | rule |", "|---|---|"]
    for name, row in rows.items():
        if name.startswith(f"{section}."):
            reason = f" *No case of its own: {row.reason}.*" if row.reason else ""
            lines.append(f"| `{name}` | {row.title}{reason} |".replace("\n", " "))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(with_tables(PATH.read_text(encoding="utf-8"), contract()), encoding="utf-8")
