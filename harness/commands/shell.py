# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness shell``: a shell in the guest."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.host.packages import require
from harness.report import Terminal
from harness.run.options import Options
from harness.run.read_options import given, takes_options
from harness.run.setup import Setup


@click.command(context_settings={"allow_interspersed_args": False})  # COMMAND's options are its own
@takes_options("shell", from_make=True)
@click.argument("command", nargs=-1)
def shell(command: tuple[str, ...], **values: Any) -> None:
    """Boot the machine and open a shell, or run COMMAND there.

    The exit code is the shell's or the command's. The machine ends with it.
    """
    options = Options(**given(values))
    with Terminal(options.again_settings()) as terminal:
        setup = Setup.prepare(options, terminal.emit)
    sys.exit(interact(setup, command))


def interact(setup: Setup, command: Sequence[str]) -> int:
    """Boot, and run ``command`` or a login shell through the host's ssh; return its exit code."""
    ssh = require("ssh")
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
