# SPDX-License-Identifier: GPL-2.0-only
"""Put bugs back: ``repro`` shows them next to a control, the suite catches them, and a bad catalogue never passes."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import CommandLine
from test_interrupted import interrupt

from harness.bugs import fixable, load_bug
from harness.bugs.fix_mail import Author, fix_mail
from harness.bugs.kernel_scripts import checkpatch, recipients
from harness.kernel import Kernel

CHEAP = "flags-unchecked"
TOUCHED = "drivers/vfio/pci/vfio_pci_dmabuf.c"
ENTRY = """
id: {name}
title: a bug of the test's own
reporter: the test
date: "2026"
thread: none
affected: nothing
fixed: nothing
symptom: none
trigger: none
machine: {machine}
expects:
  verdict: FAIL
  cases: ["test_uapi::test_bounds"]
mutation:
  files: [{touched}]
  functions: [vfio_pci_core_feature_dma_buf]
  kernels: ">=6.19"
  cocci: |
    @@
    identifier f = vfio_pci_core_feature_dma_buf;
    @@
    f(...)
    {{
    <...
    - {old}
    + {new}
    ...>
    }}
"""
HARMLESS = {"old": "return -ENODEV;", "new": "return -(ENODEV);"}
UNFIT = {"old": "no_such_call();", "new": ""}


@pytest.fixture
def put_back(harness: CommandLine, tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a catalogue with one bug, and returns the id of the bug."""
    (tmp_path / "bugs").mkdir()
    harness.env["VFIO_HARNESS_BUGS"] = str(tmp_path / "bugs")

    def entry(name: str, change: dict[str, str], machine: str = "intel-iommu") -> str:
        text = ENTRY.format(name=name, machine=machine, touched=TOUCHED, **change)
        (tmp_path / "bugs" / f"{name}.yaml").write_text(text)
        return name

    return entry


@pytest.fixture
def untouched(default_kernel: Kernel) -> Iterator[None]:
    """Check that the test leaves the kernel's source untouched."""
    assert default_kernel.source_dir
    file = default_kernel.source_dir / TOUCHED

    def state() -> tuple[str, int, int]:
        return hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns, file.stat().st_ctime_ns

    before = state()
    yield
    assert state() == before


def test_repro_shows_both_verdicts(harness: CommandLine, untouched: None) -> None:
    outcome = harness("repro", CHEAP)
    assert outcome.code == 0, outcome.output
    rows = [line.split() for line in outcome.output.splitlines() if line.startswith("test_uapi::")]
    assert ["PASS", "FAIL"] in [verdicts for _, *verdicts in rows]
    entry = load_bug(CHEAP)
    assert entry.reporter in outcome.output
    assert entry.thread in outcome.output
    assert f"again: make vm-test MUTATION={CHEAP} K=" in outcome.output


def test_repro_of_a_bug_that_does_not_show(harness: CommandLine, put_back: Callable[..., str]) -> None:
    outcome = harness("repro", put_back("harmless", HARMLESS))
    assert outcome.code == 1, outcome.output
    assert "not as expected: no case is FAIL" in outcome.output


@pytest.mark.parametrize("command", [("bugs", "check"), ("repro",), ("mutants", "--only")])
def test_mutation_that_does_not_apply(
    harness: CommandLine, put_back: Callable[..., str], command: tuple[str, ...]
) -> None:
    outcome = harness(*command, put_back("unfit", UNFIT))
    assert outcome.code == 3, outcome.output
    assert "mutation unfit does not apply" in outcome.output


def test_mutants_that_survive(harness: CommandLine, put_back: Callable[..., str]) -> None:
    """The whole suite runs, here on the machine with the fewest cases, and catches nothing."""
    outcome = harness("mutants", "--only", put_back("harmless", HARMLESS, "no-iommu"))
    assert outcome.code == 1, outcome.output
    record = json.loads((harness.results / "latest-mutants" / "mutants.json").read_text())
    (mutant,) = record["mutants"]
    assert mutant["outcome"] == "SURVIVED"
    cases = json.loads((harness.results / "latest-mutants" / "harmless" / "latest" / "report.json").read_text())[
        "cases"
    ]
    assert len({case["id"].partition("::")[0] for case in cases}) > 5
    (control,) = record["controls"]
    assert control["summary"]["PASS"] == 1
    assert not control["bad"]


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("moment", ["cc1", "qemu-system"])
def test_mutants_interrupted(harness: CommandLine, untouched: None, way: str, moment: str) -> None:
    """Interrupted while a mutant is built or runs, in parallel with its control."""
    with harness.start("mutants", "--only", CHEAP, "--only", "region-index-ignored") as running:
        running.wait_for_program(moment)
        interrupt(running, way)
    assert not list(harness.results.rglob("*.img"))


def test_audit_judges_by_behaviour(harness: CommandLine, tmp_path: Path) -> None:
    """The pinned kernel lacks one fix and has another, whose bug is put back. A blind case judges nothing."""
    (tmp_path / "bugs").mkdir()
    harness.env["VFIO_HARNESS_BUGS"] = str(tmp_path / "bugs")
    for name in ("second-domain-as-memory", "second-domain-as-memory.fix", CHEAP):
        for path in load_bug(CHEAP).path.parent.glob(f"{name}.*"):
            (tmp_path / "bugs" / path.name).write_bytes(path.read_bytes())
    fixed = f'fixed_by:\n  - {{commit: "0123456789ab", subject: "vfio: Check the flags", code: {{{TOUCHED}: flags}}}}\n'
    (tmp_path / "bugs" / f"{CHEAP}.yaml").open("a").write(fixed)
    text = ENTRY.format(name="harmless", machine="intel-iommu", touched=TOUCHED, **HARMLESS)
    blind = 'fixed_by:\n  - {commit: "ba9876543210", subject: "vfio: Do nothing"}\n'
    (tmp_path / "bugs" / "harmless.yaml").write_text(text + blind)

    outcome = harness("audit")
    assert outcome.code == 1, outcome.output
    record = json.loads((harness.results / "latest-audit" / "audit.json").read_text())
    states = {bug["id"]: (fix["state"], fix["proof"]) for fix in record["fixes"] for bug in fix["bugs"]}
    assert states == {
        "second-domain-as-memory": ("missing", None),
        CHEAP: ("present", "here"),
        "harmless": ("not judged", None),
    }
    assert {fix["state"] for fix in record["fixes"] if not fix["bugs"]} == {"not judged"}
    assert "pick: " in outcome.output


def test_a_live_bug_and_its_fix_become_mails(harness: CommandLine, default_kernel: Kernel, tmp_path: Path) -> None:
    """git am takes the fix, which the control run has proved."""
    outcome = harness("bugs", "mail", "revoked-after-wakeup", "--from", "A Tester <tester@example.org>")
    assert outcome.code == 0, outcome.output
    report, patch = (next(harness.results.glob(f"*/{name}")) for name in ("report.txt", "0001-*.patch"))
    text = report.read_text()
    assert "To: Alex Williamson" in text
    assert "vfio_pci_core_runtime_resume()" in text
    assert "the case that shows the bug passes" in " ".join(text.split())
    assert default_kernel.source_dir
    for name in ("drivers/vfio/pci/vfio_pci_core.c",):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes((default_kernel.source_dir / name).read_bytes())
    named = ("git", "-c", "user.name=c", "-c", "user.email=c@example.org")
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "base"), ("am", "-q", str(patch))):
        subprocess.run([*named, *command], cwd=tmp_path, check=True)


def test_each_fix_of_the_pinned_kernel_passes_checkpatch(default_kernel: Kernel, tmp_path: Path) -> None:
    source = default_kernel.source_dir
    assert source
    complaints = {}
    for bug in fixable(default_kernel.release):
        (patch := tmp_path / f"{bug.id}.patch").write_text(fix_mail(bug, source, Author("A", "a@example.org")))
        assert recipients(source, patch=patch).to, bug.id
        complaints[bug.id] = checkpatch(source, patch)
    assert len(complaints) > 10
    assert {name: found for name, found in complaints.items() if found} == {}
