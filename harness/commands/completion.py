# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness completion``: shell completion, by click."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: `eval "$(vfio-harness completion bash)"`.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click has these three"
    click.echo(kind(ctx.find_root().command, {}, "vfio-harness", "_VFIO_HARNESS_COMPLETE").source())
