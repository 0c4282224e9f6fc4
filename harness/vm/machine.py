# SPDX-License-Identifier: GPL-2.0-only
"""Run a booted VM as a context manager. If it ends early, the exception names the cause."""

import json
import shlex
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import paramiko

from harness.config import MachineConfig
from harness.errors import AgentLost, GuestHung, GuestLost, GuestOopsed, HarnessError
from harness.progress import Emit, phase, silent
from harness.vm import command, diagnose, disk, ssh
from harness.vm.accel import Accel
from harness.vm.boot_steps import INIT_FAILED, LISTENING, QEMU_ANSWERS, READY, BootSteps
from harness.vm.command import Boot
from harness.vm.console import Console
from harness.vm.device_server import DeviceServer
from harness.vm.exit_cause import ExitCause
from harness.vm.instance import Files, Instance
from harness.vm.process import Process
from harness.vm.qemu import Qemu, settle
from harness.vm.qmp import Event, Events, Qmp, QmpError

T = TypeVar("T")

NOMINAL_S = 1.5
"""From QEMU's start to LISTENING for a release kernel under TCG on an idle 2-core host, where slowdown is 1."""
KILL_S = 10.0
"""Deadline of QEMU's end after SIGKILL: milliseconds, unless it is stuck in the host's kernel."""
BOOT_S = 120.0
"""Deadline of a boot, for any flavour: a debug kernel under TCG needs 13 s on an idle host."""
QUIET_S = 30.0
"""From then on a boot goes on while the guest prints something in this time: it is slow, and does not hang."""
LONG_BOOTS = 4
"""A boot hangs, whatever it prints, after this many times its deadline."""
SSH_S = 15.0
OOPS = b"Oops: "
"""arch/x86/kernel/dumpstack.c, __die_header(). The task that oopses does not continue."""
OOPS_S = 1.0
"""Seconds that a call may take after an oops. If it takes longer, its task oopsed, or waits for that task's lock."""
LOOK_S = 0.2
"""Interval at which a wait for an event checks that the VM still runs."""
PEER = "peer"
"""The directory of a machine's peer, in that of the machine."""


class Machine:
    """A VM that runs inside its ``with`` block, and leaves nothing behind except the files in ``rundir``.

    ``rundir`` belongs to this boot alone: command, console.log, trace.log, qemu.stderr, and the drives while it runs.
    ``slowdown`` is measured at boot, and at least 1. It multiplies every deadline of a wait for the guest.

    ``peer``: the second VM, if the description has one. It starts and ends with this one; this one is lost with it.
    """

    def __init__(
        self,
        config: MachineConfig,
        boot: Boot,
        qemu: Qemu,
        accel: Accel,
        rundir: Path,
        *,
        emit: Emit = silent,
        gdb_port: int | None = None,
    ) -> None:
        """Prepare the command line; start nothing. Raises UsageError for a type or property that ``qemu`` lacks."""
        self.config = config
        self.slowdown = 1.0
        self.events = Events()
        self._boot = boot
        self._emit = emit
        self._gdb_port = gdb_port
        self._rundir = rundir
        self._files = Files.within(rundir)
        self.console = Console(self._files.console, self.check)
        self._exit_cause = ExitCause(self.console.tail, self.stderr_tail, emulated_kvm=accel.emulated)
        self.trace_path = self._files.trace
        self.stderr_path = self._files.stderr
        self._drives = {name: rundir / f"{name}.img" for name in command.backing_sizes(config)}
        settled = settle(config, qemu)
        self.devices = DeviceServer(config, rundir, self._drives)
        sockets = self.devices.sockets
        self._device_options = command.device_options(config, settled, sockets)
        options = command.arguments(
            config, settled, accel.option(qemu), boot, self._drives, *accel.clock(config.arch), sockets=sockets
        )
        self._options = [str(qemu.path), *options, *accel.arguments()]
        second = config.peer_machine()
        self.peer = Machine(second, boot, qemu, accel, rundir / PEER) if second else None
        self._link: socket.socket | None = None
        self._running: Instance | None = None
        self._client: paramiko.SSHClient | None = None
        self._addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start QEMU. Raises LaunchError, or HarnessError if the disk has no room."""
        if full := disk.shortage(self._rundir):
            raise full
        try:
            self._make_drives()
            self._running = Instance(self._files, self._on_event)
            self.devices.start(self._running.thread)
            self.steps = BootSteps()
            self._start(self._running)
            self._key = ssh.load_key(self._boot.ssh_key)
        except BaseException:
            self._close()
            raise
        return self

    def _start(self, instance: Instance) -> None:
        """Start QEMU, and the peer's. Only these two have the socket that links them."""
        with ExitStack() as sockets:
            if self.peer:
                self._link, self.peer._link = map(sockets.enter_context, socket.socketpair())
            fds = (self._link.fileno(),) if self._link else ()
            instance.start([*self._options, *command.link(self.config, next(iter(fds), None))], self._gdb_port, fds)
            self.steps.done(QEMU_ANSWERS)
            instance.thread.submit(self._watch_exit())
            instance.thread.submit(self._watch_devices())
            self._note_command()
            if self.peer:
                self.peer.__enter__()
                self.peer._exit_cause.when_lost(self._on_lost_peer)

    def _on_lost_peer(self, error: BaseException) -> None:
        self._exit_cause.on_host(HarnessError(f"the peer VM is lost: {error}"))

    def _note_command(self) -> None:
        try:
            (self._rundir / "command").write_text(command.shown(self.command) + "\n", encoding="utf-8")
        except OSError as error:
            raise HarnessError(f"{self._rundir}: {error.strerror}") from None

    def _make_drives(self) -> None:
        for name, size_mib in command.backing_sizes(self.config).items():
            try:
                with self._drives[name].open("wb") as file:
                    file.truncate(size_mib << 20)
            except OSError as error:
                raise HarnessError(f"{self._drives[name]}: {error.strerror}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def kill(self) -> None:
        """Kill QEMU by SIGKILL, as a case asks: nothing is lost by it. The VM is of no further use."""
        self._exit_cause.seal()
        self._instance.thread.run(self._process.kill(), KILL_S)

    def _close(self) -> None:
        self._exit_cause.seal()
        try:
            try:
                if self._client:
                    ssh.close(self._client)
            finally:
                if self.peer:
                    self.peer._close()
        finally:
            try:
                if self._running:
                    self._running.close(self.devices.close)
            finally:
                for drive in self._drives.values():
                    drive.unlink(missing_ok=True)

    # Its parts

    @property
    def command(self) -> list[str]:
        """QEMU's full command line."""
        return self._process.command

    def shell_command(self) -> str:
        """Return the machine as lines to paste into a shell, with console and monitor on the terminal (Ctrl-a c)."""
        sizes = command.backing_sizes(self.config).items()
        drives = "".join(f"truncate -s {size}M {shlex.quote(str(self._drives[name]))}\n" for name, size in sizes)
        words = [*self._options, *command.link(self.config, None), *command.INTERACTIVE]
        return drives + self.devices.shell_command() + command.shown(words)

    @property
    def _instance(self) -> Instance:
        assert self._running, "used outside its with block"
        return self._running

    @property
    def _process(self) -> Process:
        assert self._instance.process
        return self._instance.process

    @property
    def qmp(self) -> Qmp:
        """The link to QEMU."""
        return self._instance.qmp

    @property
    def agent(self) -> Path:
        """The zip application that is the guest's agent."""
        return self._boot.agent

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def iommu_type(self) -> str:
        """QEMU's type of its IOMMU; empty without one."""
        return self.config.iommu_type

    def drive(self, device_id: str) -> Path:
        """Return a drive's raw backing file, which has the guest's completed writes. Raises KeyError for no drive."""
        return self._drives[device_id]

    def memory(self, device_id: str) -> Path:
        """Return the file behind a device's ``memory``. Raises KeyError if it is in no file."""
        return self._drives[command.memory_name(device_id)]

    @property
    def device_logs(self) -> Mapping[str, Path]:
        """The log of each vfio-user device, by the device's id."""
        return self.devices.logs

    def stderr_tail(self) -> str:
        """Return the end of QEMU's stderr, escaped."""
        return self._process.stderr_tail()

    def pci_address(self, device_id: str) -> str:
        """Return the PCI address that the guest assigned, ``0000:02:00.0``. Raises KeyError for an unknown id."""
        if device_id not in self._addresses:
            for bus in self.qmp.execute("query-pci"):
                self._addresses.update(_addresses(bus["devices"]))
        return self._addresses[device_id]

    def unplug(self, device_id: str) -> int:
        """Request the unplug of a device by its slot's hot-plug. QEMU removes it once the guest releases it.

        Returns the mark in ``events`` for ``wait_unplugged``. Raises QmpError if the device cannot be unplugged.
        """
        mark = self.events.mark()
        self.qmp.execute("device_del", {"id": device_id})
        return mark

    def wait_unplugged(self, device_id: str, since: int, timeout: float) -> None:
        """Wait until the device is gone. Raises GuestHung after ``timeout * slowdown`` s, or what ended the VM."""
        self._wait_event("DEVICE_DELETED", since, timeout, f"unplug of {device_id}", device=device_id)

    def plug(self, device_id: str) -> None:
        """Plug a device that was unplugged into its slot, as new. Raises QmpError if QEMU refuses."""
        if (options := self._device_options[device_id]).startswith("{"):
            self.qmp.execute("device_add", json.loads(options))
            return
        # The monitor takes properties as text, like the command line; QMP's device_add requires them typed.
        if said := self.qmp.monitor(f"device_add {self._device_options[device_id]}").strip():
            raise QmpError(f"device_add {self._device_options[device_id]}: {said}")

    # Its end

    @property
    def lost(self) -> HarnessError | GuestLost | None:
        """What ended the VM, or made its console and trace incomplete; None if nothing did."""
        self._look_at_disk()
        return self._exit_cause.lost

    def check(self) -> None:
        """Raise ``lost``, if it is set."""
        self._look_at_disk()
        self._exit_cause.check()

    def _look_at_disk(self) -> None:
        if full := disk.shortage(self._rundir):
            self._exit_cause.on_host(full)

    def wait_for(self, future: Future[T], timeout: float, what: str) -> T:
        """Return the future's result.

        Raises GuestCrashed or QemuDied if the VM is lost first, and GuestOopsed if the kernel oopses and no result
        follows. After ``timeout * slowdown`` seconds it raises GuestHung, with the blocked tasks' stacks as notes.
        """
        seconds = self.patience(timeout)
        deadline, oopsed, mark = time.monotonic() + seconds, False, self.console.mark()
        while (left := deadline - time.monotonic()) > 0 and not future.done() and not self._exit_cause.lost:
            self._exit_cause.wait(future, min(left, OOPS_S))
            if not oopsed and self.console.says(OOPS, mark):
                oopsed, deadline = True, min(deadline, time.monotonic() + OOPS_S * self.slowdown)
        lost = future.exception() if future.done() else None
        if isinstance(lost, AgentLost) and not self._exit_cause.settled():
            raise self._exit_cause.of_agent(lost)
        if future.done() and not isinstance(lost, AgentLost):
            return future.result()
        self.check()
        if oopsed:
            raise GuestOopsed(f"{what}: no answer since an oops")
        raise self.hung(f"{what}: no answer within {seconds:.1f} s")

    def patience(self, timeout: float) -> float:
        """Return how long to wait for what takes ``timeout`` s at a slowdown of 1, with what devices may hold QEMU."""
        return timeout * self.slowdown + self.devices.allowance_s

    def hung(self, what: str) -> GuestHung:
        """Return GuestHung for ``what``, with the state of the stuck guest in its notes."""
        error = GuestHung(what)
        for note in diagnose.stacks(self.qmp, self.console):
            error.add_note(note)
        return error

    def _on_event(self, event: Event) -> None:
        self._exit_cause.on_event(event)  # first: once its event is added, no reset is expected any more
        self.events.add(event)
        if event.name == "STOP":
            self._instance.thread.submit(self._after_stop())

    async def _after_stop(self) -> None:
        with suppress(QmpError):  # QEMU is gone: _watch_exit reports why
            self._exit_cause.on_stop((await self.qmp.request("query-status"))["status"])

    async def _watch_exit(self) -> None:
        await self._process.wait()
        await self.qmp.ended()  # first handle a SHUTDOWN event that explains the exit
        self._exit_cause.on_exit(f"pid {self.pid}, {self._process.describe_exit()}")

    async def _watch_devices(self) -> None:
        if how := await self.devices.ended():
            self._exit_cause.on_host(HarnessError(f"the device server is gone: {how}"))

    # Boot and SSH

    def wait_ready(self, timeout: float = BOOT_S, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Wait until the guest has loaded its modules, and connect SSH meanwhile. Return the seconds since the start.

        ``meanwhile`` is called once SSH is connected, while modules still load. ``slowdown`` is measured.

        Raises GuestCrashed, QemuDied, GuestHung, AgentLost, or HarnessError if init failed or the clock is wrong.
        """
        with phase(self._emit, "boot", self.config.name) as handle:
            timeout = self.steps.deadline(timeout)
            self._wait_line(LISTENING, timeout)
            self.slowdown = max(1.0, self.steps.listening(self.console) / NOMINAL_S)
            self.ssh()
            self.steps.done("SSH is connected")
            meanwhile()
            self.steps.done("the agent answers")
            self._wait_line(READY, timeout)
            took = self.steps.done("ready")
            self.steps.read_log(self.console)
            handle.steps.update(self.steps.in_order())
            handle.result = f"ready after {took:.2f} s"
        return took

    def wait_reset(self, reset: Callable[[], object], timeout: float) -> None:
        """Call ``reset``, which makes the guest reset itself, and stop the VM at the reset. It is no crash.

        The VM is of no further use. Raises GuestHung if no reset comes within ``timeout * slowdown`` seconds.
        """
        mark = self.events.mark()
        with self._exit_cause.expecting_reset():
            reset()
            self._wait_event("RESET", mark, timeout, "reset")
            self.qmp.execute("stop")  # after any more events of this reset

    def _wait_event(self, name: str, since: int, timeout: float, what: str, **data: str) -> None:
        seconds = self.patience(timeout)
        deadline = time.monotonic() + seconds
        while True:
            with suppress(TimeoutError):
                self.events.wait_for(name, LOOK_S, since=since, **data)
                return
            self.check()
            if time.monotonic() > deadline:
                raise self.hung(f"{what}: not done by the guest within {seconds:.1f} s")

    def _wait_line(self, line: bytes, timeout: float) -> None:
        began = time.monotonic()
        try:
            said = self.console.wait_while_printing(
                line, INIT_FAILED, timeout=timeout, quiet=QUIET_S, most=LONG_BOOTS * timeout
            )
        except TimeoutError:
            waited = time.monotonic() - began
            raise self.hung(f"the guest did not print {line.decode()!r} within {waited:.0f} s") from None
        if said == INIT_FAILED:
            raise HarnessError(f"the guest's init failed:\n{self.console.tail()}")

    def ssh_port(self) -> int:
        """Return the port on 127.0.0.1 that leads to the guest's SSH server. QEMU chose a free one at its start."""
        for line in self.qmp.monitor("info usernet").splitlines():
            words = line.split()
            if words and words[0].startswith("TCP[HOST_FORWARD"):
                return int(words[3])
        raise HarnessError("QEMU forwards no port to the guest's SSH server")

    def ssh(self) -> paramiko.SSHClient:
        """Return the connection to the guest, made at the first call. Raises AgentLost, or what ended the VM."""
        if self._client is None:
            try:
                self._client = ssh.connect(self.ssh_port(), self._key, self._boot.host_key, SSH_S * self.slowdown)
            except AgentLost:
                if self._exit_cause.settled():
                    self.check()
                raise
        return self._client


def _addresses(devices: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield (qdev id, address) of query-pci's devices, including those behind bridges."""
    for device in devices:
        yield device["qdev_id"], f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']}"
        yield from _addresses(device.get("pci_bridge", {}).get("devices", []))
