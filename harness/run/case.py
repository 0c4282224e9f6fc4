# SPDX-License-Identifier: GPL-2.0-only
"""One run of cases: the setup, the machines, what each case goes through, and the record of it all."""

import os
import platform
import time
from bisect import bisect
from dataclasses import dataclass, field
from pathlib import Path

from harness import __version__
from harness.errors import BlindWitness, HarnessError
from harness.report.record import RunDirectory
from harness.report.text import summarise
from harness.run.judge import judge
from harness.run.known_issues import KnownIssues, catalogue
from harness.run.setup import SessionPool, Setup
from harness.session import Session, Stimuli
from harness.verdict import NEEDS_FRESH_MACHINE, CaseRecord, Evidence, HostRecord, KernelRecord, RunRecord
from harness.witness import Watch, Witnesses, prove

MAX_CALLS = 60
"""Calls into the guest that a case's evidence keeps: those nearest to its end."""
BLIND_BOOTS = 2
"""After so many boots in a row with a blind witness, no further one is worth its time."""
MAX_NOTE = 16 * 1024
"""Characters of one note of an exception that go into the evidence."""


@dataclass(frozen=True)
class Identity:
    """What a case is, before it runs; the names are those of CaseRecord."""

    id: str
    area: str
    title: str
    importer: str | None = None
    trigger: str | None = None


@dataclass
class Case:
    """One case while it runs: what it raised so far, in order, and who watches it.

    ``left_clean``: it is over, and nothing that it opened is left in its machine. ``seed``: of its dice, if any.
    ``ran_in``: as CaseRecord's.
    """

    identity: Identity
    began: float = field(default_factory=time.monotonic)
    raised: list[BaseException] = field(default_factory=list)
    watch: Watch | None = None
    left_clean: bool = False
    seed: int | None = None
    ran_in: str | None = None
    calls: list[Evidence] = field(default_factory=list)

    def on_call(self, call: str) -> None:
        """Keep a call into the guest as evidence; of many, the latest."""
        self.calls.append(Evidence(t=self.elapsed(), source="guest", text=call))
        del self.calls[:-MAX_CALLS]

    def elapsed(self) -> float:
        """Seconds since the case began."""
        return round(time.monotonic() - self.began, 6)

    def notes(self) -> list[Evidence]:
        """What the exceptions carry along: the console's tail, stacks of blocked tasks, QEMU's stderr."""
        return [
            Evidence(t=self.elapsed(), source="console" if note.startswith("console") else "host", text=note[:MAX_NOTE])
            for exc in self.raised
            for note in getattr(exc, "__notes__", ())
        ]


class Run:
    """Gives cases their session, judges them, and makes the run's record."""

    def __init__(self, setup: Setup, directory: RunDirectory) -> None:
        self.setup = setup
        self.directory = directory
        self.records: list[CaseRecord] = []
        self._positions: list[int] = []
        self._pool = SessionPool(setup, directory.path)
        self._witnesses: tuple[Session, Witnesses] | None = None
        self._blind: list[BlindWitness] = []
        self._known = KnownIssues(catalogue(), setup.kernel.release, setup.machine.name)
        self._began = time.monotonic()

    def warm(self) -> None:
        """Boot the machine before a case asks for it."""
        self._pool.warm()

    def session_for(self, case: Case) -> Session:
        """A session that is alive, with nothing open in it, watched on behalf of ``case``."""
        if len(self._blind) == BLIND_BOOTS:
            raise self._blind[-1]
        session = self._pool.get()
        if self._witnesses is None or self._witnesses[0] is not session:
            self._witnesses = session, self._proven_witnesses(session)
        case.began = time.monotonic()  # the time of a boot and of the witnesses' self-checks is not the case's
        case.watch = self._witnesses[1].watch()
        case.ran_in = session.machine.trace_path.parent.name
        session.agent.on_call = case.on_call
        return session

    def _proven_witnesses(self, session: Session) -> Witnesses:
        """Return the witnesses of a session just booted. Raises BlindWitness if one does not see."""
        witnesses = Witnesses(session.machine)
        try:
            prove(witnesses, session.machine, Stimuli(session))
        except BlindWitness as blind:
            self._blind.append(blind)
            raise
        self._blind.clear()
        return witnesses

    def conclude(self, case: Case) -> CaseRecord:
        """Judge a case that has ended; after a bad end, or with something left open, the next gets a fresh machine."""
        observed = case.watch.collect() if case.watch else None
        if observed and observed.invalid:
            case.raised.append(HarnessError(observed.invalid))
        judgement = judge(case.raised, [splat.title for splat in observed.splats] if observed else [])
        ruling = self._known.rule(case.identity.id, judgement)
        record = CaseRecord(
            **vars(case.identity),
            verdict=ruling.judgement.verdict,
            reason=ruling.judgement.reason,
            known_issue=ruling.issue,
            duration_s=round(case.elapsed(), 3),
            seed=case.seed,
            ran_in=case.ran_in,
            evidence=sorted(
                [*case.calls, *(observed.evidence if observed else ()), *case.notes()], key=lambda item: item.t
            ),
        )
        if judgement.verdict in NEEDS_FRESH_MACHINE or (case.watch is not None and not case.left_clean):
            self._pool.discard()
        return record

    def add(self, record: CaseRecord, position: int) -> None:
        """Keep the record of the case at ``position``; the run's record has them in that order."""
        where = bisect(self._positions, position)
        self._positions.insert(where, position)
        self.records.insert(where, record)

    def close(self) -> None:
        """End the machine that still runs."""
        self._pool.discard()

    def sweep(self) -> None:
        """Remove the drives of machines whose process was killed."""
        for drive in self.directory.path.glob("machine-*/*.img"):
            drive.unlink(missing_ok=True)

    def save(self) -> RunRecord:
        """Write the run's record, in all its forms, into its directory."""
        setup, kernel = self.setup, self.setup.kernel
        record = RunRecord(
            run_id=self.directory.run_id,
            started=self.directory.started,
            duration_s=round(time.monotonic() - self._began, 3),
            harness=__version__,
            host=HostRecord(
                qemu=setup.qemu.banner.removeprefix("QEMU emulator version "),
                accel=setup.accel.name,
                accel_reason=setup.accel.reason,
                cpu=host_cpu(),
            ),
            kernel=KernelRecord(
                release=kernel.release,
                origin=kernel.origin,
                config_hash=kernel.config_hash,
                patches=list(kernel.patches),
                features=dict(kernel.features),
            ),
            machine=setup.machine.name,
            summary=summarise(self.records),
            cases=self.records,
        )
        self.directory.write(record, setup.options.make_variables())
        return record


def host_cpu() -> str:
    """The host's processors, as /proc/cpuinfo names them."""
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return f"{os.cpu_count()} x {value.strip()}"
    return platform.machine()
