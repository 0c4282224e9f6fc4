# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a whole: help, man page, completion, and exit codes of errors."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness import paths
from harness.cli import COMMANDS as LISTED
from harness.cli import cli, main
from harness.commands.man import page
from harness.errors import UsageError
from harness.run import known_issues


def commands(group: click.Group = cli, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is not a group, by its full name."""
    ctx = click.Context(group)
    for word in group.list_commands(ctx):
        command = group.get_command(ctx, word)
        assert command, f"{word} is listed, and does not exist"
        full = f"{name} {word}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, full)
        else:
            yield full, command


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_full_sentences(name: str) -> None:
    command = COMMANDS[name]
    assert re.match(r"[A-Z][^\n]*(\n[^\n]+)*[.:]", command.help or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.help is not None:
            assert re.fullmatch(r".*\.(  \[default: .*\])?", parameter.help), parameter.help
    result = CliRunner().invoke(cli, [*name.split(), "-h"])
    assert result.exit_code == 0


@pytest.mark.parametrize("group", [[], ["bugs"]])
def test_the_list_of_commands_has_whole_sentences(group: list[str]) -> None:
    """In 80 columns, a longer one ends in dots."""
    listed = CliRunner().invoke(cli, [*group, "-h"], terminal_width=80).stdout.partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_the_man_page_has_every_command_and_option() -> None:
    text = page(cli).replace("\\-", "-").replace("\\e", "\\")
    for name, command in COMMANDS.items():
        if command.hidden:
            continue
        section = text.partition(f"\n.SS {name}\n")[2].partition("\n.SS ")[0]
        assert section, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(flag in section for flag in parameter.opts), (name, parameter.opts)
                assert " ".join((parameter.help or "").split()) in " ".join(section.split())
    assert "--from-make" not in text
    assert "--error-file" not in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell])
    assert result.exit_code == 0
    assert "_VFIO_HARNESS_COMPLETE" in result.output


def vfio_harness(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *args], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["run", "--no-such-option"], 2),
        (["shell", "--machine", "intel-immu"], 2),
        (["run", "--bisect", "--no-such-option"], 130),
        (["run", "--bisect", "--show-command", "--machine", "intel-immu"], 130),
        (["--no-such-option", "run", "--bisect"], 130),
        (["rum", "--bisect"], 130),
        (["compare", "--bisect", "a"], 2),
        (["walk"], 2),
    ],
)
def test_exit_codes_of_wrong_usage(args: list[str], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vfio-harness", *args])
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code


def test_every_module_with_a_command_is_listed() -> None:
    command = r"^@click\.(command|group)\((.|\n)*^def {}\("
    files = (paths.TOP / "harness" / "commands").glob("*.py")
    found = {path.stem for path in files if re.search(command.format(path.stem), path.read_text(), re.M)}
    assert found == {name.replace("-", "_") for name in LISTED}


def test_a_command_imports_no_other() -> None:
    """`vfio-harness history` must not wait for what boots a machine."""
    script = "import sys, harness.cli; harness.cli.cli.get_command(None, 'history'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    imported = {*done.stdout.split()}
    assert "harness.commands.history" in imported
    assert not {"harness.commands.run", "harness.vm", "harness.session", "paramiko", "pytest"} & imported


def test_verbose_logs_commands_to_stderr_only() -> None:
    """The command fails after git, which it has logged."""
    args = ["bisect", "v1", "v2", "--tree", "/", "-k", "x"]
    quiet, verbose = vfio_harness(*args), vfio_harness("--verbose", *args)
    assert quiet.stdout == verbose.stdout
    assert "run " not in quiet.stderr
    assert re.search(r"harness\.host\.process: run .*git .* show", verbose.stderr)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nightly", "--resume", "--show"], "--resume runs a night"),
        (["nightly", "--resume", "--matrix", "json"], "--resume runs a night"),
        (["check"], "--b4 or --patchwork"),
        (["check", "--b4", "--patchwork"], "--b4 or --patchwork"),
        (["mutants", "--sample", "2"], "need --auto"),
        (["mutants", "--functions", "f", "--model"], "need --auto"),
        (["run", "--gdb", "99999"], "99999 is not in the range 1<=x<=65535"),
        (["known", "--overdue", "next"], "'next' is not a kernel release such as 7.4"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(args: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_no_issue_is_due_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_issues, "catalogue", list)
    result = CliRunner().invoke(cli, ["known", "--overdue", "6.1"])
    assert (result.exit_code, result.stdout) == (0, "no known issue is due for a review\n")


def test_without_a_run_kernel_coverage_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_RESULTS", str(tmp_path))
    with pytest.raises(UsageError, match="latest: there is no run") as caught:
        CliRunner().invoke(cli, ["coverage", "--kernel"], catch_exceptions=False)
    assert caught.value.hint == "vfio-harness run --flavour coverage makes one"


def make(*args: str) -> str:
    """Run a target of the Makefile without its dependencies; return its output. It must fail."""
    words = ["make", "-s", "-o", "deps", "-o", "bug-deps", f"BIN={Path(sys.executable).parent}", *args]
    done = subprocess.run(words, cwd=paths.TOP, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    return done.stdout + done.stderr


def test_make_refuses_an_unknown_variable() -> None:
    assert "unknown variable KERNAL; did you mean KERNEL?" in make("vm-test", "KERNAL=~/linux", "K=a or b")
    assert "`vfio-harness repro` does not take SERIES" in make("repro", "BUG=x", "SERIES=y")


def test_make_passes_values_as_they_are() -> None:
    value = """~/a tree (1), it's "this" or $that `x`"""
    quoted = value.replace("$", "$$")
    assert value in make("shell", f"FLAVOUR={quoted}").replace("\\'", "'")
    assert value in make("repro", f"BUG={quoted}").replace("\\'", "'")
