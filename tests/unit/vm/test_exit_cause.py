# SPDX-License-Identifier: GPL-2.0-only
"""Test how QMP's events, run states and exits are judged."""

from concurrent.futures import Future

import pytest

from harness.errors import GuestCrashed, HarnessError, QemuDied
from harness.vm.exit_cause import ExitCause
from harness.vm.qmp import Event

PANIC = (
    "[    2.1] BUG: unable to handle page fault\n[    2.2] Kernel panic - not syncing: Fatal exception\n[    2.3] -\n"
)
OOPS_IN_INTERRUPT = (
    "[   37.8] Oops: general protection fault, probably for non-canonical address 0xf00087d3f000fa00: 0000 [#1] SMP\n"
    "[   37.8] CPU: 0 UID: 0 PID: 0 Comm: swapper/0 Tainted: G           O        7.2.12 #1 PREEMPTLAZY\n"
    "[   37.8] RIP: 0010:dmar_fault_dump_ptes+0x10b/0x2d0\n"
    "[   37.9] Call Trace:\n"
    "[   37.9] RIP: 0010:handle_softirqs+0x76/0x230\n"
    "[   38.0] Kernel panic - not syncing: Fatal exception in interrupt\n"
)


def exit_cause(console: str = "booting\n", stderr: str = "", *, emulated_kvm: bool = False) -> ExitCause:
    return ExitCause(lambda limit: console, lambda: stderr, emulated_kvm=emulated_kvm)


def shutdown(reason: str, guest: bool) -> Event:
    return Event("SHUTDOWN", {"guest": guest, "reason": reason})


RESET = Event("RESET", {"guest": True, "reason": "guest-reset"})


@pytest.mark.parametrize(
    ("event", "console", "said"),
    [
        (
            Event("GUEST_PANICKED", {"action": "pause"}),
            PANIC,
            "^Kernel panic - not syncing: Fatal exception\n",
        ),
        (Event("GUEST_PANICKED", {"action": "pause"}), "", "^the guest's kernel panicked\n"),
        (shutdown("guest-shutdown", True), "", r"shut down by itself \(guest-shutdown\)"),
        (RESET, "", r"reset by itself \(guest-reset\)"),
        (RESET, PANIC, "^Kernel panic - not syncing: Fatal exception\n"),
        (
            Event("GUEST_PANICKED", {"action": "pause"}),
            OOPS_IN_INTERRUPT,
            "^Kernel panic - not syncing: Fatal exception in interrupt, after an Oops in dmar_fault_dump_ptes\n",
        ),
    ],
)
def test_guest_that_ends_itself_is_a_crash(event: Event, console: str, said: str) -> None:
    judged = exit_cause(console)
    judged.on_event(event)
    with pytest.raises(GuestCrashed, match=said):
        judged.check()


def test_a_reset_without_a_panic_proves_nothing_under_an_emulated_kvm() -> None:
    judged = exit_cause(emulated_kvm=True)
    judged.on_event(RESET)
    with pytest.raises(HarnessError, match=r"^the guest reset by itself \(guest-reset\) and did not panic: an emul"):
        judged.check()


@pytest.mark.parametrize(("emulated", "kind"), [(False, GuestCrashed), (True, HarnessError)])
def test_an_emulated_kvm_that_cannot_go_on_proves_nothing(emulated: bool, kind: type[Exception]) -> None:
    judged = exit_cause(emulated_kvm=emulated)
    judged.on_stop("internal-error")
    with pytest.raises(kind) as caught:
        judged.check()
    assert type(caught.value) is kind


def test_a_panic_is_a_crash_under_an_emulated_kvm_too() -> None:
    judged = exit_cause(PANIC, emulated_kvm=True)
    judged.on_event(RESET)
    with pytest.raises(GuestCrashed):
        judged.check()


@pytest.mark.parametrize(
    "event",
    [
        shutdown("host-qmp-quit", False),
        shutdown("host-signal", False),
        Event("RESUME", {}),
        Event("STOP", {}),
    ],
)
def test_act_of_the_host_is_no_crash(event: Event) -> None:
    judged = exit_cause()
    judged.on_event(event)
    assert judged.lost is None


@pytest.mark.parametrize(
    ("event", "console", "said"),
    [
        (
            Event("GUEST_PANICKED", {"action": "pause"}),
            "[    9.1] Kernel panic - not syncing: System is deadlocked on memory\n",
            "^the guest ran out of memory: Kernel panic",
        ),
        (
            Event("RESET", {"guest": False, "reason": "host-qmp-system-reset"}),
            "",
            r"^the machine was reset from outside \(host-qmp-system-reset\)",
        ),
    ],
)
def test_end_that_says_nothing_about_the_kernel(event: Event, console: str, said: str) -> None:
    judged = exit_cause(console)
    judged.on_event(event)
    with pytest.raises(HarnessError, match=said):
        judged.check()


def test_announced_reset() -> None:
    judged = exit_cause()
    with judged.expecting_reset():
        judged.on_event(RESET)
    assert judged.lost is None
    judged.on_event(RESET)
    assert isinstance(judged.lost, GuestCrashed)


@pytest.mark.parametrize(
    ("state", "kind"), [("internal-error", GuestCrashed), ("io-error", QemuDied), ("paused", None), ("running", None)]
)
def test_run_states(state: str, kind: type[Exception] | None) -> None:
    judged = exit_cause()
    judged.on_stop(state)
    assert type(judged.lost) is (kind or type(None))


def test_first_cause_counts_and_carries_the_evidence() -> None:
    judged = exit_cause("last words\n", "Blocked re-entrant IO\n")
    judged.on_event(RESET)
    judged.on_exit("exit code 0")
    error = judged.lost
    assert isinstance(error, GuestCrashed)
    assert error.__notes__ == ["console:\nlast words\n", "QEMU's stderr:\nBlocked re-entrant IO\n"]


def test_exit_without_a_cause_blames_harness_or_host() -> None:
    judged = exit_cause()
    judged.on_exit("pid 7, killed by SIGKILL")
    with pytest.raises(QemuDied, match="QEMU is gone: pid 7, killed by SIGKILL"):
        judged.check()
    assert isinstance(judged.lost, HarnessError)


def test_end_by_the_harness_is_ignored() -> None:
    judged = exit_cause()
    judged.seal()
    judged.on_exit("killed by SIGKILL")
    assert judged.lost is None


def test_wait_ends_with_the_vm() -> None:
    judged = exit_cause()
    never: Future[None] = Future()
    judged.wait(never, 0.01)
    assert judged.lost is None
    judged.on_event(RESET)
    judged.wait(never, 60)
    assert judged.settled()


def test_an_observer_gets_the_first_cause_and_not_an_end_by_the_harness() -> None:
    ended, sealed = exit_cause(), exit_cause()
    seen: list[str] = []
    for each in (ended, sealed):
        each.when_lost(lambda error: seen.append(str(error)))
    sealed.seal()
    for each in (ended, sealed):
        each.on_exit("pid 7, killed by SIGKILL")
    assert seen == ["QEMU is gone: pid 7, killed by SIGKILL"]
    ended.when_lost(lambda error: seen.append("late"))
    assert seen[1:] == ["late"]
