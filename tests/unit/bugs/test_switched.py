# SPDX-License-Identifier: GPL-2.0-only
"""Mutants that a parameter turns on: the host's compiler builds the switched file, and each switch does one thing."""

import subprocess
from pathlib import Path

import pytest

from harness.bugs.auto import AutoMutant
from harness.bugs.rules import edits, signature
from harness.bugs.switched import HOME, SwitchedMutants, kernel_argument, with_copies

SOURCE = b"""#define unlikely(x) (x)
#define UVERBS_HANDLER(name) handler_##name

struct pair { int one, two; };

static int add(int a, int b)
{
	return a + b;
}

static void set(struct pair *pair, int value)
{
	pair->one = value;
}

struct pair *pick(struct pair *pairs, int (*which)(int, int), const char name[])
{
	return &pairs[which(1, 0)];
}

static int UVERBS_HANDLER(METHOD)(int arg)
{
	return arg == 2;
}

int recurse(void);
int recurse(void)
{
	static int calls;

	return calls++ < 3 ? recurse() : calls;
}
"""
PROGRAM = b"""
#include <stdio.h>
#include <stdlib.h>

unsigned char vfio_harness_mutant[9];

int main(int argc, char **argv)
{
	struct pair pairs[2] = { { 0, 0 }, { 0, 0 } };

	while (--argc)
		vfio_harness_mutant[atoi(argv[argc])] = 1;
	set(pairs, 5);
	printf("%d %d %d %d", add(1, 2), pairs[0].one, (int)(pick(pairs, add, "") - pairs), handler_METHOD(2));
	return 0;
}
"""


def mutant(function: str, rule: str) -> AutoMutant:
    edit = next(edit for edit in edits(SOURCE, function) if edit.rule == rule)
    return AutoMutant(f"{function}-{rule}", "x.c", edit, "")


MUTANTS = [
    mutant("add", "wrong-operator"),
    mutant("set", "drop-assignment"),
    mutant("pick", "wrong-constant"),
    mutant("METHOD", "wrong-operator"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("switched")
    source = directory / "x.c"
    source.write_bytes(with_copies(SOURCE, list(enumerate(MUTANTS))) + PROGRAM)
    command = [
        "gcc",
        "-Wall",
        "-Werror",
        "-Wmissing-prototypes",
        "-Wno-error=missing-prototypes",
        "-Wno-unused-function",
    ]
    subprocess.run([*command, "-w", str(source), "-o", str(directory / "x")], check=True)
    return directory / "x"


@pytest.mark.parametrize(
    ("on", "output"),
    [
        ([], "3 5 1 1"),
        ([0], "-1 5 1 1"),
        ([1], "3 0 1 1"),
        ([2], "3 5 2 1"),
        ([3], "3 5 1 0"),
        ([1, 3], "3 0 1 0"),
    ],
)
def test_a_switch_turns_on_one_fault(program: Path, on: list[int], output: str) -> None:
    found = subprocess.run([program, *map(str, on)], capture_output=True, check=True, text=True).stdout
    assert found == output


def test_a_signature_names_the_arguments() -> None:
    found = {name: signature(SOURCE, name) for name in ("add", "set", "pick", "METHOD", "recurse")}
    assert {name: each.arguments for name, each in found.items()} == {
        "add": ("a", "b"),
        "set": ("pair", "value"),
        "pick": ("pairs", "which", "name"),
        "METHOD": ("arg",),
        "recurse": (),
    }
    assert [name for name, each in found.items() if not each.returns] == ["set"]


def test_the_parameter_is_defined_once_where_it_is_always_built_in(tmp_path: Path) -> None:
    for name in ("x.c", HOME):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(SOURCE)
    made = SwitchedMutants(MUTANTS).files(tmp_path)
    assert [name for name, text in made.items() if text and b"module_param_cb" in text] == [HOME]
    assert kernel_argument([0, 3]) == "dma_buf.vfio_harness_mutants=0,3"
