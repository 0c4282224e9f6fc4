# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness shell``: a booted machine and somebody at its prompt."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from harness.errors import MissingPrerequisite
from harness.run.setup import Setup


def command_line(setup: Setup) -> str:
    """QEMU's command line for the setup's machine, as a shell takes it."""
    with tempfile.TemporaryDirectory() as rundir:
        return f"mkdir -p {rundir}\n{setup.machine_in(Path(rundir)).shell_command()}"


def interact(setup: Setup, command: Sequence[str]) -> int:
    """Boot, and run ``command`` or a login shell in the guest by the host's own ssh; returns its exit code."""
    ssh = shutil.which("ssh")
    if ssh is None:
        raise MissingPrerequisite("no ssh client in PATH", hint="apt-get install openssh-client")
    with tempfile.TemporaryDirectory() as rundir, setup.machine_in(Path(rundir)) as machine:
        machine.wait_ready()
        known_hosts = Path(rundir) / "known_hosts"
        known_hosts.write_text(f"guest {setup.image.host_key}\n", encoding="ascii")
        if setup.options.gdb:
            click.echo(f"gdb: `target remote 127.0.0.1:{setup.options.gdb}` with {setup.kernel.build_dir}/vmlinux")
        if not command:
            devices = ", ".join(f"{d.id} {machine.pci_address(d.id)}" for d, _ in setup.machine.walk() if d.role)
            click.echo(f"{devices}\nconsole: {machine.console.path}\nThe machine ends with the shell.")
        options = (
            "HostKeyAlias=guest",
            f"UserKnownHostsFile={known_hosts}",
            "StrictHostKeyChecking=yes",
            "LogLevel=ERROR",
        )
        words = [ssh, "-F", "none", "-i", str(setup.image.ssh_key), "-p", str(machine.ssh_port())]
        words += [word for option in options for word in ("-o", option)]
        return subprocess.run([*words, "root@127.0.0.1", *command], check=False).returncode
