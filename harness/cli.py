# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness``: the group of commands, and how its end becomes an exit code."""

import logging
import signal
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from harness import __version__, commands
from harness.errors import HarnessError, UsageError
from harness.report import Terminal
from harness.run.exit_codes import ExitCodes

COMMANDS = (
    "run",
    "build",
    "shell",
    "doctor",
    "bench",
    "repro",
    "reproducer",
    "mutants",
    "audit",
    "kvm-test",
    "bugs",
    "known",
    "nightly",
    "bisect",
    "compare",
    "merge",
    "summary",
    "check",
    "review",
    "history",
    "flakes",
    "prune",
    "coverage",
    "counts",
    "machines",
    "new",
    "completion",
    "man",
    "make-variables",
)
"""Each is a function of this name in the module of this name, with underscores, in ``harness/commands``."""


class Commands(click.Group):
    """The commands. Only that of the command line is imported: all of them take most of a second.

    Sets the exit codes for git-bisect before it parses anything: wrong usage must not mark a commit.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the alphabet."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"{commands.__name__}.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the options before the command."""
        if isinstance(codes := extra.get("obj"), ExitCodes):
            codes.bisect = "--bisect" in args
        return super().make_context(info_name, args, parent, **extra)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Only ``run`` has ``--bisect``; an unknown command may be a mistyped ``run``."""
        name, command, rest = super().resolve_command(ctx, args)
        if isinstance(ctx.obj, ExitCodes):
            ctx.obj.bisect = name == "run" and "--bisect" in rest
        return name, command, rest


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
@click.option("-v", "--verbose", is_flag=True, help="Log host commands, QMP, SSH and cache hits to stderr.")
def cli(verbose: bool) -> None:
    """Validate Linux's vfio-pci dma-buf export in QEMU guests.

    `vfio-harness COMMAND -h` explains a command.
    """
    if verbose:
        # One line each, so that commands can be copied. The terminal then draws no live line that they would break.
        logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("harness").setLevel(logging.DEBUG)


def main() -> None:
    """Run the console script. SIGTERM and SIGHUP end a run as Ctrl-C does, with everything cleaned up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    codes = ExitCodes()
    try:
        code = cli.main(standalone_mode=False, obj=codes)
    except SystemExit as end:
        code = end.code
    except HarnessError as error:
        Terminal({}).failure(error)
        code = codes.of_error(error)
    except click.ClickException as error:
        error.show()
        code = UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: everything that was started is gone", err=True)
        code = 128 + signal.SIGINT
    except Exception:
        if not codes.bisect:
            raise
        traceback.print_exc()
        code = HarnessError.exit_code
    sys.exit(codes.final(int(code or 0)))
