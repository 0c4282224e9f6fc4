# SPDX-License-Identifier: GPL-2.0-only
"""HTML pages from the templates in ``templates/``. Every value is made printable, then escaped."""

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.escape import printable
from harness.report.parts import MISS
from harness.report.rate import as_text
from harness.report.text import summarise, tally
from harness.verdict import KERNEL_AT_FAULT, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"

_COLOURS = {
    Verdict.PASS: "good",
    Verdict.FIXED: "good",
    Verdict.KNOWN: "warn",
    Verdict.SKIP: "info",
    Verdict.ERROR: "odd",
} | dict.fromkeys(KERNEL_AT_FAULT, "bad")


def render(template: str, *, directory: Path = TEMPLATES, **values: Any) -> str:
    """Render the page ``template``. Values may hold any text, a guest's too.

    ``directory``: where the template is, if it is another room's. It may use the templates of this room.
    """
    return _environment(directory).get_template(template).render(values)


def colour(verdict: str) -> str:
    """Return the CSS class of a verdict, or of MISS."""
    return "odd" if verdict == MISS else _COLOURS[Verdict(verdict)]


@cache
def _environment(directory: Path) -> "Environment":
    # Imported here: 50 ms that only a command that writes a page pays.
    jinja2 = importlib.import_module("jinja2")
    environment: Environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([directory, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {
        "colour": colour,
        "rate": as_text,
        "summarise": summarise,
        "tally": tally,
    }
    return environment


def _printable(value: Any) -> Any:
    """Make a value printable before it is escaped. A macro returns HTML already."""
    if hasattr(value, "__html__"):
        return value
    text = str(value)
    return text if text.isprintable() else printable(text)  # most text is, and this halves the time of a page
