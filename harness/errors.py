# SPDX-License-Identifier: GPL-2.0-only
"""One exception tree. Each class says what it means to the caller, so that the kernel
is never blamed for our failure, nor passed by it."""

import errno


class HarnessError(Exception):
    """The harness or the host failed: says nothing about the kernel. Verdict ERROR, exit code 3.

    ``hint`` is one sentence or command that mends it, shown below the message.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(HarnessError):
    """Wrong usage or configuration; the message names the file, the key and the accepted values. Exit code 2."""

    exit_code = 2


class MissingPrerequisite(HarnessError):
    """A program, package or device the host needs is not there; ``hint`` is the line that installs it."""


class KernelError(HarnessError):
    """The kernel under test is at fault before any case could run. Exit code 1; 125 under ``--bisect``."""

    exit_code = 1


class KernelBuildError(KernelError):
    """The kernel's source did not compile; the message quotes the compiler's first error."""


class KernelLacksFeature(KernelError):
    """The kernel has no vfio-pci dma-buf export, or lacks an option; ``hint`` names the option to set, ``origin`` the
    kernel as ``Kernel.origin`` does."""

    def __init__(self, message: str, *, origin: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.origin = origin


class CapabilityMissing(Exception):
    """What a case asks for cannot be said to this kernel: it lacks an optional capability. Verdict SKIP."""


class LaunchError(HarnessError):
    """QEMU did not start or left during start; carries exit code, full command line and the tail of its stderr."""


class QemuDied(HarnessError):
    """QEMU was killed or aborted by the host while a case ran (not by a guest's own shutdown or panic)."""


class AgentLost(HarnessError):
    """The SSH connection or the agent process went away while the guest itself is alive."""


class AgentError(HarnessError):
    """The agent raised something that is no errno of a kernel call: a defect of the agent; carries its traceback."""


class GuestLost(Exception):
    """The guest is no longer usable, and the kernel is the suspect."""


class GuestCrashed(GuestLost):
    """The guest died: panic, reset, shutdown, or QEMU's run state lost. Verdict CRASH."""


class GuestHung(GuestLost):
    """A deadline passed while the guest was alive: a guest task is stuck. Verdict HANG."""


class GuestOopsed(GuestLost):
    """The kernel oopsed, and the call that was waited for has not come back since. Verdict SPLAT."""


def errno_name(number: int) -> str:
    """The kernel's name of an errno; Python's for EOPNOTSUPP is ENOTSUP."""
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, str(number))


class KernelErrno(OSError):
    """A call to the kernel under test failed in the guest; ``call`` names it (``VFIO_DEVICE_RESET``).

    Expected by a case, it is data; unexpected, the kernel broke the contract: verdict FAIL.
    """

    def __init__(self, call: str, number: int) -> None:
        self.call = call
        self.name = errno_name(number)
        super().__init__(number, f"{call}: {self.name}")


class ImporterRefused(Exception):
    """An importing device refused a transfer; the message is its status, e.g. ``IBV_WC_REM_ACCESS_ERR``.

    Expected after a revoke; from a live buffer, the kernel broke the contract: verdict FAIL.
    """
