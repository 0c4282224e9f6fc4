# SPDX-License-Identifier: GPL-2.0-only
"""Define the harness's exceptions. The class of an exception decides the verdict and the exit code.

This keeps the two kinds of failure apart: a failure of the harness never blames the kernel, and never passes it.
"""

import errno
from collections.abc import Iterable


class HarnessError(Exception):
    """The harness or the host failed, which says nothing about the kernel. Verdict ERROR, exit code 3."""

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        """One sentence or command that fixes the problem. It is printed below the message."""


class UsageError(HarnessError):
    """The usage or the configuration is wrong. Exit code 2.

    The message names the file, the key and the accepted values.
    """

    exit_code = 2


class MissingPrerequisite(HarnessError):
    """The host lacks a program, package or device. ``hint`` is the command that installs it."""


class KernelError(HarnessError):
    """The kernel under test failed before any case could run. Exit code 1, or 125 with ``--bisect``."""

    exit_code = 1


class KernelBuildError(KernelError):
    """The kernel source did not compile. The message quotes the compiler's first error."""


class KernelLacksFeature(KernelError):
    """The kernel has no vfio-pci dma-buf export, or lacks an option. ``hint`` names the option to set."""

    def __init__(self, message: str, *, origin: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.origin = origin
        """The kernel, in the words of ``Kernel.origin``."""


class QemuTooOld(MissingPrerequisite):
    """The machine needs a newer QEMU than the host's. ``vfio-harness run`` skips every case; others end with this."""


class CapabilityMissing(Exception):
    """The kernel lacks an optional capability that the case needs. Verdict SKIP."""


class LaunchError(HarnessError):
    """QEMU did not start, or exited while starting.

    The message has its exit code, its full command line and the end of its stderr.
    """


class QemuDied(HarnessError):
    """QEMU was killed, or aborted, while a case ran. A shutdown or panic of the guest is ``GuestCrashed`` instead."""


class BlindWitness(HarnessError):
    """A witness did not see what its self-check made happen, so no verdict may rely on it. The message names it."""


class AgentLost(HarnessError):
    """The SSH connection or the agent process ended, but the guest is alive."""


class ProcessEnded(HarnessError):
    """A process that the case forked in the guest ended before it answered."""


class AgentError(HarnessError):
    """The agent raised an exception other than the errno of a kernel call: a defect of the agent.

    The message has the agent's traceback.
    """


class GuestLost(Exception):
    """The guest is no longer usable, and the kernel is the suspect."""


class GuestCrashed(GuestLost):
    """The guest died: it panicked, reset or shut down, or QEMU left the running state. Verdict CRASH."""


class GuestHung(GuestLost):
    """A deadline passed while the guest was alive, so a guest task is stuck. Verdict HANG."""


class KernelComplained(GuestLost):
    """A step of a long case made the kernel complain, and the next step needs a fresh machine. Verdict SPLAT."""


class GuestOopsed(GuestLost):
    """The kernel oopsed, and the pending call never returned. Verdict SPLAT."""


def errno_name(number: int) -> str:
    """Return the kernel's name of an errno.

    Python names 95 ENOTSUP, the kernel EOPNOTSUPP (include/uapi/asm-generic/errno.h).
    """
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))


def outcome_names(outcomes: Iterable[int]) -> list[str]:
    """Return the errno's name of each outcome, 0 or ``-errno``; ``""`` for success."""
    return [errno_name(-outcome) if outcome else "" for outcome in outcomes]


class KernelErrno(OSError):
    """A call to the kernel under test failed in the guest.

    A case that expects the errno goes on. If no case expects it, the kernel broke the contract: verdict FAIL.
    """

    def __init__(self, call: str, number: int) -> None:
        self.call = call
        """The name of the call, e.g. ``VFIO_DEVICE_RESET``."""
        self.name = errno_name(number)
        """The name of the errno, e.g. ``ENODEV``."""
        super().__init__(number, f"{call}: {self.name}")


class ImporterRefused(Exception):
    """An importing device refused a transfer. The message is its status, e.g. ``IBV_WC_REM_ACCESS_ERR``.

    After a revoke this is correct. On a live buffer the kernel broke the contract: verdict FAIL.
    """
