# SPDX-License-Identifier: GPL-2.0-only
"""The table of options: one field gives the option of click, pytest, make and the "again:" line."""

import re
import shlex
from dataclasses import dataclass, replace

import click
import pytest
from click.testing import CliRunner

from harness import paths
from harness.cli import cli
from harness.errors import UsageError
from harness.report.text import repeat_command
from harness.run.option_row import PYTEST, option, takes
from harness.run.options import Options, table
from harness.run.read_options import MAKE_ONLY, add_pytest_options, check_make_variables, given, takes_options
from harness.verdict import CaseRecord, Verdict


@dataclass(frozen=True)
class MoreOptions(Options):
    """The table with one more option, added in one place."""

    colour: str | None = option(None, "The colour of the bikeshed.", takes("run", "shell", PYTEST), make="COLOUR")


def parse(command: str, *args: str, options: type[Options] = Options, env: dict[str, str] | None = None) -> Options:
    """Return the options that a click command of that name reads from its arguments."""
    found: list[Options] = []

    @click.command()
    @takes_options(command, options, from_make=True)
    def act(**values: object) -> None:
        found.append(options(**given(values)))

    result = CliRunner().invoke(act, args, env={"MAKEFLAGS": "", **(env or {})}, catch_exceptions=False)
    if not found:
        raise UsageError(result.output)
    return found[0]


def test_a_new_field_is_an_option_everywhere() -> None:
    assert vars(parse("run", "--colour", "red", options=MoreOptions))["colour"] == "red"
    with pytest.raises(UsageError, match="No such option"):
        parse("bench", "--colour", "red", options=MoreOptions)
    assert (
        vars(parse("shell", "--from-make", options=MoreOptions, env={"COLOUR": "a red one"}))["colour"] == "a red one"
    )
    parser = pytest.Parser(_ispytest=True)
    add_pytest_options(parser, MoreOptions)
    assert parser.parse(["--colour", "red"]).colour == "red"
    chosen = MoreOptions(colour="red", machine="aer")
    assert chosen.arguments() == ["--machine=aer", "--colour=red"]
    assert chosen.make_variables() == {"MACHINE": "aer", "COLOUR": "red"}


def test_arguments_are_parsed_back_to_the_same_options() -> None:
    options = Options(
        machine="aer",
        kernel="~/a tree",
        qemu="/q",
        gdb=1234,
        expression="a or not b",
        seed=7,
        jobs=3,
        focus=True,
        fail_fast=True,
        bisect=True,
    )
    assert parse("run", *options.arguments()) == options
    assert Options().arguments() == []


def test_pytest_has_the_same_defaults_and_choices() -> None:
    parser = pytest.Parser(_ispytest=True)
    add_pytest_options(parser)
    parsed = parser.parse([])
    rows = [row for row in table() if PYTEST in row.commands and not row.draw]
    assert {row.name: getattr(parsed, row.name) for row in rows} == {row.name: row.default for row in rows}
    assert parser.parse(["--qemu=/q"]).qemu == "/q"
    with pytest.raises(pytest.UsageError, match="vanilla"):
        parser.parse(["--flavour=vanilla"])


def test_each_run_draws_its_seed() -> None:
    assert parse("run").seed != parse("run").seed
    assert parse("repro").seed is None


def test_the_environment_is_read_for_make_only() -> None:
    env = {"KERNEL": "/a tree", "K": "a or b", "MACHINE": "aer", "FLAVOUR": ""}
    found = parse("run", "--from-make", env=env)
    assert (found.kernel, found.expression, found.machine, found.flavour) == ("/a tree", "a or b", "aer", "release")
    assert parse("run", "--from-make", "--machine=switch", env=env).machine == "switch"
    assert parse("run", env=env).kernel is None


@pytest.mark.parametrize(
    ("makeflags", "complaint"),
    [
        ("", None),
        ("k", None),
        (" -j2 --jobserver-auth=3,4 -- KERNEL=/a\\ tree K=x\\ KERNAL=y", None),
        (" -- PYTHON=x MACHINES=a\\ b", None),
        (" -- KERNAL=x", "unknown variable KERNAL; did you mean KERNEL?"),
        ("s -- K=x SEREIS=y", "unknown variable SEREIS; did you mean SERIES?"),
        (" -- ZZZ:=x", "unknown variable ZZZ$"),
    ],
)
def test_unknown_make_variables_are_refused(makeflags: str, complaint: str | None) -> None:
    taken = [row.make for row in table() if row.make]
    if complaint is None:
        check_make_variables(makeflags, "run", taken)
    else:
        with pytest.raises(UsageError, match=re.escape(complaint).replace(r"\$", "$")):
            check_make_variables(makeflags, "run", taken)


def test_a_variable_that_the_command_does_not_take_is_refused() -> None:
    with pytest.raises(UsageError, match="`vfio-harness repro` does not take SERIES"):
        parse("repro", "--from-make", env={"MAKEFLAGS": " -- SERIES=x"})


def test_only_repro_takes_the_variable_bug() -> None:
    parse("repro", "--from-make", env={"MAKEFLAGS": " -- BUG=x"})
    for command in ("run", "mutants"):
        with pytest.raises(UsageError, match=f"`vfio-harness {command}` does not take BUG"):
            parse(command, "--from-make", env={"MAKEFLAGS": " -- BUG=x"})


def test_make_help_lists_the_variables_of_the_table() -> None:
    listed = CliRunner().invoke(cli, ["make-variables"]).output
    assert re.findall(r"^([A-Z_]+)=\S+ +\S", listed, re.M) == [row.make for row in table() if row.make]


def test_the_makefile_itself_reads_only_variables_that_no_option_takes() -> None:
    text = (paths.TOP / "Makefile").read_text()
    read = set(re.findall(r"\$[({]([A-Z_]+)[)}]|\$\$\{?([A-Z]+)", text))
    assert {a or b for a, b in read} <= {
        *MAKE_ONLY,
        "BUG",
        "PLAN",
        "SERIES",
        "SINCE",
        "MUTATION",
        "RUN",
        "MAKEFILE_LIST",
    }


def test_every_command_of_the_table_exists_and_takes_its_options() -> None:
    names = {name for row in table() for name in row.commands} - {PYTEST}
    for name in names:
        command: click.Command = cli
        for word in name.split():
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), word)
            assert found, name
            command = found
        taken = {parameter.name for parameter in command.params}
        assert {row.name for row in table() if name in row.commands} <= taken


def test_help_is_made_of_sentences() -> None:
    for row in table():
        for text in [row.help, *(use.help for use in row.commands.values() if use.help)]:
            assert re.fullmatch(r"[A-Z].*\.(  \[default: .*\])?", text) or text.startswith("QEMU's"), text


def test_a_seed_is_repeated_only_with_a_suite_that_uses_one() -> None:
    assert Options(suite="stress", seed=7).make_variables() == {"SUITE": "stress", "SEED": "7"}
    assert replace(Options(), seed=7, gdb=1, jobs=2, fail_fast=True, expression="x").make_variables() == {}


def test_the_variable_of_a_flag_is_1() -> None:
    assert Options(fixed=True).make_variables() == {"FIXED": "1"}
    assert parse("run", "--from-make", env={"FIXED": "1"}).fixed
    assert not parse("run", "--from-make", env={"FIXED": ""}).fixed


def test_where_there_is_no_makefile_the_flags_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed wheel has no Makefile. The printed command gives the same options again."""
    monkeypatch.setattr(paths, "INSTALLED", True)
    options = Options(machine="aer", kernel="~/a tree", fixed=True)
    case = CaseRecord(
        id="test_a::test_b[edu]", area="a", title="b", importer=None, trigger=None, verdict=Verdict.FAIL, duration_s=1
    )
    program, command, *words = shlex.split(repeat_command(case, options.again_settings()))
    assert (program, command) == ("vfio-harness", "run")
    again = parse("run", *words)
    assert replace(again, seed=None) == replace(options, expression="test_b[edu]")
