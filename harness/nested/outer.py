# SPDX-License-Identifier: GPL-2.0-only
"""Run the emulated machine: boot it, follow what the harness inside prints, and wait for its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, MissingPrerequisite
from harness.escape import escaped
from harness.nested import initramfs
from harness.nested.image import OuterImage
from harness.nested.recipe import Outer
from harness.nested.results import DISK
from harness.nested.shares import Share
from harness.vm import Qemu
from harness.vm.boot_steps import INIT_FAILED
from harness.vm.command import Scalar, option
from harness.vm.instance import Files, Instance
from harness.vm.process import tail
from harness.vm.qmp import Events

POLL_S = 0.1
MOST_OUTPUT = 32 << 20
"""Bytes that the machine may print on one serial line."""
MAX_LINE = 4096
WRITTEN = b"vfio-harness: results are written"
"""Printed by the machine's init."""
KERNEL_ARGS = "console=ttyS1 quiet panic=-1 tsc=reliable no_timer_check mitigations=off rdinit=/init"


PANIC = "Kernel panic - not syncing"


class OuterCrashedError(HarnessError):
    """The outer machine's own kernel has crashed: a fault of QEMU's emulated virtualisation."""


@dataclass(frozen=True)
class OuterFiles:
    """The files of one run of the machine, in a directory of its own."""

    initrd: Path
    disk: Path
    output: Path
    """What the harness inside prints."""
    qemu: Files

    @classmethod
    def within(cls, directory: Path) -> "OuterFiles":
        """Return the usual names in ``directory``, and create it. Raises HarnessError."""
        qemu = Files.within(directory)
        return cls(directory / "initrd", directory / "results.img", directory / "output.txt", qemu)


NINE_P = "virtio-9p-pci"


def require_9p(qemu: Qemu) -> None:
    """Raise MissingPrerequisite if QEMU cannot share a directory: it may be built without 9p."""
    if not qemu.properties([NINE_P]):
        raise MissingPrerequisite(
            f"{qemu.path} has no {NINE_P}, with which the outer machine sees the host's files",
            hint="Debian's QEMU has it: QEMU=debian:11.1",
        )


def arguments(outer: Outer, image: OuterImage, files: OuterFiles, shares: Sequence[Share]) -> list[str]:
    """Return QEMU's options without its path and channels. The machine has no network."""
    words = [
        *("-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-no-reboot"),
        # Always emulated, as each host can: whether a host's own KVM can nest is another question.
        *("-accel", "tcg,thread=multi", "-cpu", outer.cpu, "-smp", str(outer.vcpus), "-m", str(outer.memory_mib)),
        *("-kernel", str(image.kernel), "-initrd", str(files.initrd), "-append", KERNEL_ARGS),
        *("-chardev", option("file", {"id": "output", "path": str(files.output)}), "-serial", "chardev:output"),
        *("-blockdev", option("file", {"node-name": "results", "filename": str(files.disk)})),
        *("-device", "virtio-blk-pci,drive=results"),
    ]
    for share in shares:
        local: dict[str, Scalar] = {
            "id": share.tag,
            "path": str(share.path),
            "security_model": "none",
            "readonly": True,
        }
        words += ["-fsdev", option("local", {**local, "multidevs": "remap"})]
        words += ["-device", option(NINE_P, {"fsdev": share.tag, "mount_tag": share.tag})]
    return words


@dataclass(frozen=True)
class Job:
    """What the machine does in one run."""

    initramfs: bytes
    """Its script, and the files that this needs."""
    shares: Sequence[Share]
    """The directories of the host that it sees."""
    deadline_s: float
    """How long it may take, with the boot of the machine."""


@dataclass(frozen=True)
class OuterMachine:
    """An emulated machine."""

    config: Outer
    image: OuterImage
    qemu: Qemu

    def run(self, job: Job, directory: Path, on_line: Callable[[str], None]) -> Path:
        """Boot, run the job, and return the disk with its results.

        ``directory`` gets the machine's files. ``on_line`` gets each line that the harness inside prints, escaped.
        Whatever ends the run, no process is left.

        Raises LaunchError, or HarnessError if the machine does not write its results by the deadline.
        """
        files = OuterFiles.within(directory)
        try:
            files.initrd.write_bytes(initramfs.join(self.image.initrd.read_bytes(), job.initramfs))
            with files.disk.open("wb") as disk:
                disk.truncate(DISK)
            files.output.touch()
        except OSError as error:
            raise HarnessError(f"{directory}: {error.strerror}") from None
        events = Events()
        instance = Instance(files.qemu, events.add)
        try:
            instance.start([str(self.qemu.path), *arguments(self.config, self.image, files, job.shares)])
            assert instance.process
            exited = instance.thread.submit(instance.process.wait())
            _follow(files, lambda: exited.done() or _has_stopped(events), job.deadline_s, on_line)
        except BaseException as error:
            files.disk.unlink(missing_ok=True)
            if isinstance(error, OSError):  # e.g. the user has removed the directory
                raise HarnessError(f"{error.filename or directory}: {error.strerror}") from None
            raise
        finally:
            instance.close()
            files.initrd.unlink(missing_ok=True)
        return files.disk


def _has_stopped(events: Events) -> bool:
    return any(event.name in ("SHUTDOWN", "STOP", "GUEST_PANICKED") for event in events.since(0))


def _follow(
    files: OuterFiles, has_ended: Callable[[], bool], deadline_s: float, on_line: Callable[[str], None]
) -> None:
    """Wait until the machine ends. Raises HarnessError at the deadline, and if it ends without its results."""
    deadline = time.monotonic() + deadline_s
    lines = _Lines(files.output)
    while True:
        ended = has_ended()  # before its last lines are read
        for line in lines.new():
            on_line(line)
        if ended:
            break
        if time.monotonic() > deadline:
            raise HarnessError(f"the outer machine did not end within {deadline_s:.0f} s; see {files.output.parent}")
        if max(path.stat().st_size for path in (files.output, files.qemu.console) if path.exists()) > MOST_OUTPUT:
            raise HarnessError(f"the outer machine printed more than {MOST_OUTPUT >> 20} MiB: {files.output.parent}")
        time.sleep(POLL_S)
    said = tail(files.qemu.console, MAX_LINE).strip()
    if WRITTEN.decode() not in said:
        failed = [line for line in said.splitlines() if INIT_FAILED.decode() in line]
        if PANIC in said:
            raise OuterCrashedError(f"the outer machine's own kernel has crashed: {files.qemu.console}")
        last = (failed or said.split("\n"))[-1] or "it printed nothing"
        raise HarnessError(f"the outer machine ended without results: {last}", hint=f"see {files.qemu.console}")


class _Lines:
    """Reads the whole lines that are new in a growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""

    def new(self) -> list[str]:
        """Return the lines since the last call, each escaped and cut to ``MAX_LINE`` bytes."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            fresh = file.read(1 << 20)
        self._read += len(fresh)
        *lines, rest = (self._rest + fresh).split(b"\n")
        self._rest = rest[:MAX_LINE]
        return [escaped(line[:MAX_LINE]) for line in lines]
