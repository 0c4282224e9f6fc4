# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue of bugs: every entry loads, names existing cases, and lists what its mutation changes.

Also which functions a change touches. ``vfio-harness bugs check`` tests that the mutations apply."""

from pathlib import Path

import pytest

from harness import paths
from harness.bugs import Bug, load_bug, load_bugs
from harness.bugs.mutation import changed_functions
from harness.cases.collect import Collected, collect
from harness.cases.contract import runs_on
from harness.config import known_machines, load_machine
from harness.errors import UsageError
from harness.kernel.source.resolve import release_of
from harness.verdict import KERNEL_AT_FAULT, Verdict

FILES = sorted(paths.bugs_dir().glob("*.yaml"), key=lambda path: path.stem)


@pytest.fixture(scope="module")
def cases() -> list[Collected]:
    return collect()


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def entry(request: pytest.FixtureRequest) -> Bug:
    """Each entry. Loading it validates it, and checks that its id is the name of its file."""
    return load_bug(request.param.stem)


def test_every_file_is_an_entry() -> None:
    assert [entry.id for entry in load_bugs()] == [path.stem for path in FILES]


def test_a_missing_catalogue_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_BUGS", str(tmp_path / "nosuch"))
    with pytest.raises(UsageError, match=r"^VFIO_HARNESS_BUGS=.*/nosuch: no such directory$"):
        load_bugs()


def test_cases_exist_and_the_machine_runs_one(entry: Bug, cases: list[Collected]) -> None:
    assert not entry.expects.unknown_cases(case.id for case in cases)
    assert entry.machine in known_machines()
    machine = load_machine(entry.machine)
    assert any(entry.expects.concerns(case.id) and runs_on(case, machine) for case in cases)


def test_a_bug_survives_on_other_machines_only(entry: Bug) -> None:
    assert set(entry.survives_on) <= set(known_machines()) - {entry.machine}
    assert list(entry.survives_on) == sorted(set(entry.survives_on))
    assert entry.mutation or not entry.survives_on, "a bug that is live is on each machine"


def test_ten_mutations_are_caught_only_with_a_device_of_our_own() -> None:
    """A machine is tried if some bug is known to survive on it."""
    entries = [entry for entry in load_bugs() if entry.machine == "vfio-user"]
    tried = {machine for entry in entries for machine in entry.survives_on}
    assert len(tried) >= 14, tried
    only = [entry.id for entry in entries if set(entry.survives_on) == tried]
    assert len(only) >= 10, only


def test_bug_can_be_shown(entry: Bug) -> None:
    """A bug with a mutation or an affected release expects a verdict against the kernel; a refuted one expects PASS."""
    if entry.mutation or entry.kernels:
        assert entry.expects.verdict in KERNEL_AT_FAULT
    else:
        assert entry.expects.verdict is Verdict.PASS


def test_mutation_names_the_functions_that_it_changes(entry: Bug) -> None:
    if entry.mutation is None:
        return
    assert all(name.endswith((".c", ".h")) and not Path(name).is_absolute() for name in entry.mutation.files)
    text = entry.mutation.cocci or entry.mutation.patch or ""
    for name in entry.mutation.functions:
        assert name == "(file)" or name in text or entry.mutation.patch, f"{name} is not in the semantic patch"


def test_fix_is_next_to_the_entry(entry: Bug) -> None:
    assert entry.fix is None or (entry.path.parent / entry.fix).is_file()


C = """\
#include <linux/x.h>

static_assert(sizeof(int) == 4);

struct thing {
	int a;
};

/* A comment directly above a function
 * belongs to the function.
 */
static int first(struct thing *it,
		int b)
{
	if (b) {
		it->a = b;
	}
	return 0;
}

int __must_check second(void)
{
	return 1;
}
EXPORT_SYMBOL_GPL(second);

static const struct ops table = {
	.second = second,
};
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("int a;", "int a;", set()),
        ("it->a = b;", "it->a = 0;", {"first"}),
        ("		int b)", "		int b, int c)", {"first"}),
        (" * belongs to the function.", " * is part of it.", {"first"}),
        ("	return 1;\n", "", {"second"}),
        ("	int a;\n", "	int a;\n	int b;\n", {"(file)"}),
        ("	.second = second,", "	.second = NULL,", {"(file)"}),
        ("EXPORT_SYMBOL_GPL", "EXPORT_SYMBOL", {"(file)"}),
        ("int __must_check second(void)\n{\n	return 1;\n}\n", "", {"second"}),
        ("\nint __must_check", "\nvoid third(void)\n{\n}\n\nint __must_check", {"third"}),
    ],
)
def test_changed_functions(old: str, new: str, changed: set[str]) -> None:
    assert old in C
    assert changed_functions(C, C.replace(old, new)) == changed


@pytest.mark.parametrize(
    ("makefile", "release"),
    [
        ("VERSION = 7\nPATCHLEVEL = 2\nSUBLEVEL = 12\nEXTRAVERSION =\nNAME = Baby\n", "7.2.12"),
        ("VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 0\nEXTRAVERSION = -rc4\n", "7.3.0-rc4"),
        ("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\n", "6.1.192"),
    ],
)
def test_release_of_a_source(tmp_path: Path, makefile: str, release: str) -> None:
    (tmp_path / "Makefile").write_text(f"# SPDX-License-Identifier: GPL-2.0\n{makefile}")
    assert release_of(tmp_path) == release
