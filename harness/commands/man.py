# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness man``: the man page, made from the help of every command."""

from collections.abc import Iterator

import click

from harness import __version__


@click.command(hidden=True)
@click.pass_context
def man(ctx: click.Context) -> None:
    """Print the man page in roff."""
    click.echo(page(ctx.find_root().command))


def page(group: click.Command) -> str:
    """Format a group of commands as one man page of section 1."""
    assert isinstance(group, click.Group)
    root = click.Context(group, info_name="vfio-harness")
    lines = [
        f'.TH VFIO-HARNESS 1 "" "vfio-harness {__version__}" "User Commands"',
        ".SH NAME",
        r"vfio-harness \- validate Linux's vfio-pci dma-buf export in QEMU guests",
        ".SH SYNOPSIS",
        r".B vfio-harness",
        r"[OPTIONS] COMMAND [ARGS]...",
        ".SH OPTIONS",
        *_options(group, root),
        ".SH COMMANDS",
        *_commands(group, root),
    ]
    return "\n".join(lines)


def _commands(group: click.Group, parent: click.Context) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        if isinstance(command, click.Group):
            yield from _commands(command, context)
            continue
        yield f".SS {_roff(context.command_path.removeprefix('vfio-harness '))}"
        yield _roff(" ".join(command.collect_usage_pieces(context)))
        for paragraph in (command.help or "").split("\n\n"):
            yield ".PP"
            yield _roff(" ".join(paragraph.split()))
        yield from _options(command, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield ".TP"
            yield f"\\fB{_roff(record[0])}\\fP"
            yield _roff(record[1])


def _roff(text: str) -> str:
    """Escape text for roff: backslashes, hyphens, and a control character at the start of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
