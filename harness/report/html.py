# SPDX-License-Identifier: GPL-2.0-only
"""``report.html``: one static page, complete in itself: no script, no network, light and dark."""

from collections.abc import Iterable, Mapping
from html import escape

from harness.escape import printable
from harness.report.text import repeat_command, tally
from harness.verdict import KERNEL_AT_FAULT, CaseRecord, Evidence, RunRecord, Verdict

_STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --dim: #57606a; --panel: #f6f8fa;
  --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --odd: #8250df; --info: #0969da; }
@media (prefers-color-scheme: dark) { :root { --line: #30363d; --dim: #8b949e; --panel: #161b22;
  --good: #3fb950; --bad: #f85149; --warn: #d29922; --odd: #a371f7; --info: #58a6ff; }
  body { background: #0d1117; color: #e6edf3; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.tally { font-size: 1.1rem; margin: .25rem 0 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt, .dim { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; table-layout: fixed; }
th:first-child { width: 4.2rem; } th:nth-child(3) { width: 8.5rem; } th:nth-child(4) { width: 10.5rem; }
th:last-child { width: 4.5rem; }
.more td { border-top: 0; padding-top: 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: 600; border-top: 0; } .time { text-align: right; white-space: nowrap; }
.v { font-weight: 700; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.odd { color: var(--odd); } .info { color: var(--info); }
.reason { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--dim); }
pre, code { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--panel); border-radius: 4px; padding: .15rem .5rem; margin: 0;
  overflow: auto; max-height: 28rem; }
ol { list-style: none; margin: .4rem 0; padding: 0; }
li { display: grid; grid-template-columns: 9.5rem minmax(0, 1fr); margin: .2rem 0; }
"""

_CLASS = {
    Verdict.PASS: "good",
    Verdict.FIXED: "good",
    Verdict.KNOWN: "warn",
    Verdict.SKIP: "info",
    Verdict.ERROR: "odd",
} | dict.fromkeys(KERNEL_AT_FAULT, "bad")


def render(record: RunRecord, settings: Mapping[str, str]) -> str:
    """The whole page. ``settings``: see ``repeat_command``."""
    return page(
        f"vfio-harness: {record.kernel.release}",
        f'<p class="tally">{_tally(record)} <span class="dim">in {record.duration_s:.1f} s</span></p>',
        _facts(record),
        *(_area(area, record.cases, settings) for area in dict.fromkeys(case.area for case in record.cases)),
    )


def page(title: str, *parts: str) -> str:
    """A page of parts that are HTML already, under a title that is not."""
    head = safe(title)
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Nothing of the guest's can load or run anything, should it ever get past the escaping.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{head}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{head}</h1>",
            *parts,
            "</body>\n</html>\n",
        )
    )


def safe(text: str) -> str:
    """Anybody's text as HTML."""
    return escape(printable(text))


def coloured(verdict: Verdict, text: str) -> str:
    """Anybody's text in a verdict's colour."""
    return f'<span class="{_CLASS[verdict]}">{safe(text)}</span>'


def facts(known: Mapping[str, str]) -> str:
    """What is known, by name; what is empty is left out."""
    rows = "".join(f"<dt>{safe(name)}</dt><dd>{safe(value)}</dd>" for name, value in known.items() if value)
    return f"<dl>{rows}</dl>"


def _tally(record: RunRecord) -> str:
    if not any(record.summary.values()):
        return safe(tally(record.summary))
    return ", ".join(
        coloured(verdict, f"{record.summary[verdict]} {verdict}") for verdict in Verdict if record.summary.get(verdict)
    )


def _facts(record: RunRecord) -> str:
    kernel, host = record.kernel, record.host
    known = {
        "run": f"{record.run_id}, {record.started}, vfio-harness {record.harness}",
        "kernel": f"{kernel.release} from {kernel.origin}, config {kernel.config_hash}",
        "patches": ", ".join(kernel.patches),
        "features": ", ".join(f"{'' if present else 'no '}{name}" for name, present in kernel.features.items()),
        "machine": record.machine,
        "host": f"QEMU {host.qemu}, {host.accel} ({host.accel_reason}), {host.cpu}",
    }
    return facts(known)


def _area(area: str, cases: Iterable[CaseRecord], settings: Mapping[str, str]) -> str:
    rows = "\n".join(_case(case, settings) for case in cases if case.area == area)
    return (
        f"<h2>{safe(area)}</h2>\n<table>\n"
        "<tr><th>verdict</th><th>case</th><th>importer</th><th>trigger</th><th class='time'>time</th></tr>\n"
        f"{rows}\n</table>"
    )


def _case(case: CaseRecord, settings: Mapping[str, str]) -> str:
    known = f' <span class="dim">({safe(case.known_issue)})</span>' if case.known_issue else ""
    reason = f'<div class="reason">{safe(case.reason)}{known}</div>' if case.reason or known else ""
    open_ = " open" if case.verdict in KERNEL_AT_FAULT | {Verdict.ERROR} else ""
    again = f"<code>{safe(repeat_command(case, settings))}</code>"
    where = f'<p class="dim">{"; ".join(map(_file, _files(case)))}</p>' if case.ran_in else ""
    return (
        f'<tr><td class="v {_CLASS[case.verdict]}">{case.verdict}</td><td>{safe(case.title)}{reason}</td>'
        f"<td>{safe(case.importer or '')}</td><td>{safe(case.trigger or '')}</td>"
        f'<td class="time">{case.duration_s:.2f} s</td></tr>\n<tr class="more"><td></td><td colspan="4">'
        f"<details{open_}><summary>{safe(case.id)}</summary>{_evidence(case.evidence)}{where}{again}</details></td></tr>"
    )


def _files(case: CaseRecord) -> list[str]:
    """What the case's machine wrote, relative to the page."""
    return [f"{case.ran_in}/{name}" for name in ("command", "console.log", "trace.log", "qemu.stderr")]


def _file(path: str) -> str:
    return f'<a href="{safe(path)}">{safe(path)}</a>'


def _evidence(evidence: Iterable[Evidence]) -> str:
    rows = "".join(
        f'<li><span class="dim">{item.t:.3f} s {item.source}</span><pre>{safe(item.text)}</pre></li>'
        for item in evidence
    )
    return f"<ol>{rows}</ol>" if rows else ""
