# SPDX-License-Identifier: GPL-2.0-only
"""One run: gives each case a session, judges it, and writes the run's record."""

import os
import platform
import re
import time
from bisect import bisect
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness import __version__, paths
from harness.bugs import fixable
from harness.cases import contract
from harness.cases.pending import PendingChanges
from harness.config import load_machine
from harness.errors import BlindWitness, GuestLost, HarnessError, KernelErrno, KernelLacksFeature, QemuTooOld
from harness.kernel import has_gcov
from harness.progress import Emit, PhaseDone, phase
from harness.report.outcomes import differs
from harness.report.rate import FAILED, merged
from harness.report.record import RunDirectory, load, write_report
from harness.report.text import summarise
from harness.run import reach_map
from harness.run.case import Case, Identity
from harness.run.coverage import CaseCoverage
from harness.run.judge import Judgement, judge
from harness.run.kernel_record import kernel_record
from harness.run.known_issues import KnownIssues, catalogue
from harness.run.options import Options
from harness.run.session_pool import SessionPool
from harness.run.setup import Setup
from harness.session import Session, Stimuli, device_check, recording
from harness.verdict import (
    BAD,
    KERNEL_AT_FAULT,
    NEEDS_FRESH_MACHINE,
    CaseRecord,
    HostRecord,
    KernelRecord,
    NoLongerSeen,
    PhaseRecord,
    ProgramRecord,
    RunRecord,
    ShardRecord,
    Verdict,
)
from harness.vm import Qemu
from harness.witness import Witnesses, prove, prove_devices

MAX_BLIND_BOOTS = 2
"""After this many boots in a row with a blind witness, the remaining cases are ERROR without another boot."""


class Run:
    """The cases of one run, in this process and in its workers."""

    def __init__(self, setup: Setup, directory: RunDirectory, phases: list[PhaseDone]) -> None:
        """``phases``: those that are done; more are appended."""
        self.setup = setup
        self.directory = directory
        self.records: list[CaseRecord] = []
        self.phases = phases
        self.shard: ShardRecord | None = None
        self.pending = PendingChanges(contract.read())
        self._positions: list[int] = []
        self._pool = SessionPool(setup, directory.path)
        self._witnesses: tuple[Session, Witnesses] | None = None
        self._blind: list[BlindWitness] = []
        release = setup.kernel.release
        fixed = {bug.id for bug in fixable(release)} if setup.options.fixed else set()
        issues = [issue for issue in catalogue() if issue.id not in fixed]
        options = setup.options
        self._known = KnownIssues(
            issues, release, setup.machine.name, flavour=options.flavour, fail_nth=options.fail_nth
        )
        counts = has_gcov(setup.kernel.config) and not setup.options.no_counters
        self._coverage = CaseCoverage(setup, directory.path) if counts else None
        control = load(options.until_changed).cases if options.until_changed else []
        self._control = {case.id: case for case in control}
        self._began = time.monotonic()

    def warm(self) -> None:
        """Boot the machine ahead of the first case."""
        self._pool.warm()

    def session_for(self, case: Case) -> Session:
        """Return a live session with nothing open in it, and start the witnesses of ``case``.

        Raises the errors of a boot, and BlindWitness if a witness does not see.
        """
        if len(self._blind) == MAX_BLIND_BOOTS:
            raise BlindWitness(str(self._blind[-1]), hint=self._blind[-1].hint)
        try:
            session = self._pool.get()
        except BlindWitness as blind:
            self._blind.append(blind)
            raise
        case.ran_in = session.machine.trace_path.parent.name
        if self._witnesses is None or self._witnesses[0] is not session:
            self._witnesses = session, self._proven_witnesses(session)
        if self._coverage:
            self._coverage.start(case.identity.id, session)
        session.references.start()
        case.began = time.monotonic()  # leaves out the boot and the witnesses' self-checks
        case.watch = self._witnesses[1].watch()
        case.watch.on_use = lambda witness: recording.add({"witness": witness})
        case.recording = session.log_calls(case.on_call)
        recording.record(case.recording)
        return session

    def renew_session(self, case: Case) -> Session:
        """Discard the machine of a case that goes on, and return a session on a fresh one.

        Raises what ``session_for`` raises.
        """
        self._pool.discard()
        began = case.began
        session = self.session_for(case)
        case.began = began
        return session

    @property
    def known_issues(self) -> frozenset[str]:
        """The ids of the known issues that the kernel under test has."""
        return self._known.ids

    def current_session(self) -> Session | None:
        """Return the session that runs, if there is one."""
        return self._pool.current

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

    def repeats(self, case: Case) -> bool:
        """Return whether a case that has ended runs again, with other failures. Prepares it then."""
        if case.fail_nth is None or case.fail_nth.finished or case.raised or not case.left_clean:
            return False
        assert case.watch is not None, "it had a session"
        observed = case.watch.collect()
        if observed.splats or observed.invalid:
            return False
        case.begin_again()
        return True

    def conclude(self, case: Case) -> CaseRecord:
        """Judge a case that has ended.

        Discards its machine after SPLAT, HANG, CRASH or ERROR, and if the case left something open.
        """
        recording.record(None)
        observed = case.watch.collect() if case.watch else None
        if observed and observed.invalid:
            case.raised.append(HarnessError(observed.invalid))
        splats = [splat.title for splat in observed.splats] if observed else []
        judgement = judge(case.raised, splats)
        defects = observed.defects if observed else ()
        if judgement.verdict in KERNEL_AT_FAULT and (fault := self._device_fault(case, judgement, defects)):
            case.raised[:] = [fault]
            judgement = judge(case.raised, [])
        elif judgement.verdict is Verdict.PASS and (fault := self._fault_behind_a_pass()):
            case.raised.append(fault)
            judgement = judge(case.raised, [])
        ruling = self._known.rule(case.identity.id, judgement)
        evidence = [*case.calls, *(observed.evidence if observed else ()), *case.notes()]
        record = CaseRecord(
            **vars(case.identity),
            verdict=ruling.judgement.verdict,
            reason=ruling.judgement.reason,
            known_issue=ruling.issue,
            started=case.started(),
            duration_s=round(case.earlier_s + case.elapsed(), 3),
            seed=case.seed,
            program=self._keep_program(case),
            recording=self._keep_recording(case, ruling.judgement.verdict),
            ran_in=case.ran_in,
            evidence=sorted(evidence, key=lambda item: item.t),
        )
        if self._coverage and case.watch and self._pool.current:
            self._coverage.finish(case.identity.id, self._pool.current)
        if judgement.verdict in NEEDS_FRESH_MACHINE or (case.watch is not None and not case.left_clean):
            self._pool.discard()
        return record

    def _device_fault(self, case: Case, judgement: Judgement, defects: Sequence[str]) -> BlindWitness | None:
        """Check the vfio-user devices before the kernel is blamed. Returns the error that explains it, or None.

        ``defects``: failures of the models during the case. QEMU's own devices are trusted once they have passed the
        self-check of the boot: they are no programs of ours.
        """
        session, found = self._pool.current, f"the case had found {judgement.verdict}: {judgement.reason}"
        if defects:
            return BlindWitness(f"{defects[0]}; {found}")
        if session is None or self._witnesses is None or not session.machine.device_logs:
            return None
        if judgement.verdict is Verdict.FAIL:
            blind = self._checked_by_the_guest(session, self._witnesses[1])
        else:  # the guest may be of no use, and the machine is discarded
            fault = device_check.fault(session.machine, case.began)
            blind = BlindWitness(fault) if fault else None
        return BlindWitness(f"{blind}; {found}", hint=blind.hint) if blind else None

    def _fault_behind_a_pass(self) -> BlindWitness | None:
        """Look for a vfio-user device that is faulty in config space, which few cases would notice."""
        session = self._pool.current
        if session is None or not session.machine.device_logs:
            return None
        found = device_check.changing_config(session.machine)
        return BlindWitness(f"{found}; the case had passed") if found else None

    @staticmethod
    def _checked_by_the_guest(session: Session, witnesses: Witnesses) -> BlindWitness | None:
        """Ring the controllers in the guest, as at boot, and return what was not seen. The session stays of use."""
        if session.unusable:
            return None
        stimuli = Stimuli(session)
        try:
            session.reset()
            stimuli.release()
            prove_devices(witnesses, session.machine, stimuli)
        except BlindWitness as blind:
            return blind
        except (HarnessError, GuestLost, KernelErrno):  # it says nothing about the devices
            return None
        return None

    def _keep_program(self, case: Case) -> ProgramRecord | None:
        """Write the calls of a failure to a file in the directory of the run."""
        if case.program is None:
            return None
        path = self._file_of(case.identity.id.partition("::")[2], "program")
        write_report(path, case.program)
        return ProgramRecord(file=str(path), calls=case.program.splitlines())

    def _keep_recording(self, case: Case, verdict: Verdict) -> str | None:
        """Write the calls of a case that fails to a file in the directory of the run. Returns its name there."""
        if case.recording is None or verdict not in FAILED:
            return None
        path = self._file_of(case.identity.id, "recording.json")
        try:
            write_report(path, case.recording.encode())
        except HarnessError:  # the run's own record has no room either, and reports it
            return None
        return path.name

    def _file_of(self, name: str, suffix: str) -> Path:
        return self.directory.path / f"{re.sub(r'[^a-z0-9]+', '-', name).strip('-')}.{suffix}"

    def add(self, record: CaseRecord, position: int | None = None) -> None:
        """Keep a record. The run's record is sorted by ``position``; None is the end."""
        position = len(self.records) if position is None else position
        index = bisect(self._positions, position)
        self._positions.insert(index, position)
        self.records.insert(index, record)

    @property
    def stops(self) -> bool:
        """Whether ``--fail-fast``, ``--fail-after``, ``--until-fail`` or ``--until-changed`` ends the run here."""
        options = self.setup.options
        if options.until_fail and any(record.verdict in FAILED for record in self.records):
            return True
        if any(differs(self._control[case.id], case) for case in self.records if case.id in self._control):
            return True
        limit = 1 if options.fail_fast else options.fail_after
        bad = sum(record.verdict in BAD for record in self.records)
        return limit is not None and bad >= limit

    def close(self) -> None:
        """End the machine."""
        self._pool.discard()

    def sweep(self) -> None:
        """Remove the drives of machines whose worker was killed."""
        for drive in self.directory.path.glob("machine-*/*.img"):
            drive.unlink(missing_ok=True)

    def keep_reach(self, record: RunRecord, emit: Emit) -> None:
        """Add to the coverage map of the cache what the cases have reached, if they were counted."""
        if self._coverage and not self.setup.options.fail_nth:
            with phase(emit, "coverage map", reach_map.series_of(record.kernel.release)) as step:
                step.result = f"{reach_map.add_run(self.directory.path, record)} cases"

    def save(self) -> RunRecord:
        """Write the run's record, in all its forms, into its directory."""
        setup, kernel, options = self.setup, self.setup.kernel, self.setup.options
        cases = merged(self.records, until_fail=options.until_fail) if options.repeat > 1 else self.records
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
            kernel=kernel_record(kernel, self.directory.path),
            machine=setup.machine.name,
            summary=summarise(cases),
            no_longer_seen=no_longer_seen(cases, options),
            phases=[*map(_phase_record, self.phases)],
            shard=self.shard,
            cases=cases,
        )
        self.directory.write(record, options.again_settings())
        return record


def _phase_record(done: PhaseDone) -> PhaseRecord:
    steps = {step: round(seconds, 3) for step, seconds in done.steps.items()}
    return PhaseRecord(phase=done.name, detail=done.detail, seconds=round(done.seconds, 3), steps=steps)


def no_longer_seen(cases: Iterable[CaseRecord], options: Options) -> list[NoLongerSeen]:
    """List the cases that are FIXED on a kernel that a series or a mutation changed.

    ``--fixed`` alone changes nothing that is worth a look: it applies the catalogue's own fixes.
    """
    if not (options.series or options.mutation):
        return []
    return [NoLongerSeen(issue=case.known_issue or "", case=case.id) for case in cases if case.verdict is Verdict.FIXED]


def save_skipped(
    options: Options,
    cases: Iterable[Identity],
    error: KernelLacksFeature | QemuTooOld,
    shard: ShardRecord | None = None,
) -> Path:
    """Write the record of a run whose kernel lacks the export, or whose QEMU is too old for the machine.

    No machine boots, every case is SKIP. Returns the run's directory.
    """
    directory = RunDirectory(paths.results_dir(), options.run_directory)
    qemu = Qemu.for_machine(load_machine(options.machine), options.qemu)
    skipped = [CaseRecord(**vars(case), verdict=Verdict.SKIP, reason=str(error), duration_s=0.0) for case in cases]
    record = RunRecord(
        run_id=directory.run_id,
        started=directory.started,
        duration_s=0.0,
        harness=__version__,
        host=HostRecord(
            qemu=qemu.banner.removeprefix("QEMU emulator version "),
            accel="none",
            accel_reason="no machine was booted",
            cpu=host_cpu(),
        ),
        kernel=_unbuilt(error, options),
        machine=options.machine,
        summary=summarise(skipped),
        shard=shard,
        cases=skipped,
    )
    directory.write(record, options.again_settings())
    return directory.path


def _unbuilt(error: KernelLacksFeature | QemuTooOld, options: Options) -> KernelRecord:
    if isinstance(error, KernelLacksFeature):
        origin, features = error.origin, {"dmabuf_export": False}
    else:
        origin, features = options.kernel or "the pinned kernel", {}
    return KernelRecord(release="not built", origin=origin, config_hash="", features=features)


def host_cpu() -> str:
    """Name the host's processors, as /proc/cpuinfo does."""
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return f"{os.cpu_count()} x {value.strip()}"
    return platform.machine()
