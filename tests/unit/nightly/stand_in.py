# SPDX-License-Identifier: GPL-2.0-only
"""Nights with real child processes: a stand-in program in place of ``vfio-harness run``."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.commands.children import Children
from harness.commands.nightly_cells import CaseList
from harness.commands.nightly_local import LocalRunner
from harness.commands.nightly_run import Limits, begun, continued, new_night, run_night
from harness.nightly.nights import nights_dir
from harness.nightly.outcomes import load_night
from harness.nightly.record import Cell, CellRun, Night, Why
from harness.progress import silent

DEADLINE_S = 30.0

STAND_IN = '''
"""Behaves as vfio-harness run does: writes report.json into --run-directory. What it does is in does.json, by tree."""
import json, os, pathlib, random, signal, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[2:] if word.startswith("--") and "=" in word)
cases = [word.rpartition("/")[2].replace(".py::", "::") for word in sys.argv[2:] if not word.startswith("--")]
top = pathlib.Path(__file__).parent
does = json.loads((top / "does.json").read_text())[options["kernel"]]
directory = pathlib.Path(options["run-directory"])
seed = int(options.get("seed", random.randrange(1 << 30)))
with (top / "started").open("a") as started:
    started.write(options["kernel"] + "\\n")
for path in top.glob("pid-" + options["kernel"] + "-*"):
    stat = pathlib.Path("/proc", path.name.rpartition("-")[2], "stat")
    if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        (top / "twice").touch()
(top / f"pid-{options['kernel']}-{os.getpid()}").write_text(str(os.getppid()))
def write(verdicts):
    report = {
        "schema": "vfio-harness/report/1", "run_id": "r", "started": "s", "duration_s": 1.0, "harness": "0",
        "host": {"qemu": "", "accel": "tcg", "accel_reason": "", "cpu": ""},
        "kernel": {"release": "7.2.12", "origin": "o", "config_hash": ""}, "machine": "intel-iommu", "summary": {},
        "cases": [
            {"id": case, "area": "a", "title": "t", "verdict": verdict, "duration_s": 1.0, "seed": seed}
            for case, verdict in verdicts.items()
        ],
    }
    (directory / "report.json").write_text(json.dumps(report))
def leave(number, frame):
    write(dict(list(does["verdicts"].items())[:1]))
    sys.exit(130)
signal.signal(signal.SIGTERM, leave)
(directory / "pid").write_text(str(os.getpid()))
for _ in range(600 * bool(does.get("stay"))):
    print("waiting", flush=True)
    if (top / "released").exists():
        break
    time.sleep(0.1)
if "error" in does:
    error = {"exit_code": does["code"], "message": does["error"], "hint": None}
    (directory / "error.json").write_text(json.dumps(error))
    sys.exit(does["code"])
if does.get("kill"):
    os.kill(os.getpid(), signal.SIGKILL)
verdicts = {case: verdict for case, verdict in does["verdicts"].items() if not cases or case in cases}
later = does.get("later", {}) if cases else {}
verdicts = {case: random.choice(later[case]) if case in later else verdict for case, verdict in verdicts.items()}
write(verdicts)
sys.exit(1 if "FAIL" in verdicts.values() else 3 if "ERROR" in verdicts.values() else 0)
'''


def cell(tree: str, *cases: str, expected_s: float | None = None) -> Cell:
    return Cell(
        id=f"{tree}-cell",
        tree=tree,
        kernel=tree,
        flavour="release",
        machine="intel-iommu",
        suite="default",
        expected_s=expected_s,
        cases=list(cases or ("test_a::x", "test_a::y")),
    )


GOOD = {"test_a::x": "PASS", "test_a::y": "PASS"}


class StandIn:
    """Nights whose runs are a stand-in for ``vfio-harness run``."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.nights = nights_dir()
        (top / "stand_in.py").write_text(STAND_IN)

    def does(self, **trees: dict[str, object]) -> None:
        """Say what the stand-in does: the verdicts of its cases, or another end."""
        (self.top / "does.json").write_text(json.dumps(trees))

    def run(self, *cells: Cell, limits: Limits | None = None, deadline_s: float | None = None) -> tuple[int, Night]:
        """Run a night, or continue the newest one if no cell is given."""
        new = begun(self.nights, new_night(Path("/plan.yaml"), cells, deadline_s)) if cells else continued(self.nights)
        with new as running, Children() as started:
            code = run_night(running, LocalRunner(started, CaseList([])), limits or Limits(), silent)
        return code, load_night(running.directory)

    def started(self) -> list[str]:
        """Return the trees whose runs were started, in order."""
        return (self.top / "started").read_text().split()


def runs(night: Night, number: int = 0) -> list[tuple[Why, int | None]]:
    return [(run.why, run.exit_code) for run in night.results[number].runs]


def cases_of(stand_in: StandIn, run: CellRun) -> list[dict[str, Any]]:
    """Return the cases of a run of the newest night."""
    report = json.loads((stand_in.nights / "latest" / run.directory / "report.json").read_text())
    return list(report["cases"])


PARENT = """
import signal, sys
from pathlib import Path
for number in (signal.SIGINT, signal.SIGTERM):  # as harness.cli does
    signal.signal(number, signal.default_int_handler)
sys.path[:] = {path}
from stand_in import StandIn, cell
from harness.commands import children
children.PROGRAM = (sys.executable, {top!r} + "/stand_in.py")
cells = [cell("a"), cell("b"), cell("c")]
stand_in = StandIn(Path({top!r}))
if sys.argv[1].startswith("tcp:"):
    from test_nightly_dask import Lab
    Lab(stand_in, sys.argv[1], None, []).run(*cells)
else:
    stand_in.run(*([] if sys.argv[1] == "resume" else cells))
"""

COMMANDS = Path(__file__).parents[1] / "commands"
"""The directory of test_nightly_dask, which ``PARENT`` imports."""


@contextmanager
def night_of_its_own(stand_in: StandIn, what: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a night in a process of its own, and kill it at the end."""
    script = PARENT.format(path=[str(COMMANDS), *sys.path], top=str(stand_in.top))
    with subprocess.Popen([sys.executable, "-c", script, what], stderr=subprocess.DEVNULL) as parent:
        try:
            yield parent
        finally:
            parent.kill()
