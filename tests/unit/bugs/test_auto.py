# SPDX-License-Identifier: GPL-2.0-only
"""Automatic mutants: sampling by seed, sharing of kernels, patches that patch(1) takes."""

import subprocess
from pathlib import Path

import pytest

from harness.bugs.auto import combined, groups, mutants_of, patch_of, sample, with_ids
from harness.config.kernel_path import KernelPath
from harness.errors import UsageError

FILE = "drivers/x.c"
TEXT = b"int f(int a)\n{\n\tif (a)\n\t\treturn -EINVAL;\n\treturn 0;\n}\n\nint g(int a)\n{\n\treturn a & 1;\n}\n"
PATH = KernelPath(kernels=">=7", files={FILE: ["f", "g"], "drivers/absent.c": ["h"]})


class Compiler:
    """Refuses what mentions 0 &&, and takes a negation for the original."""

    def compile(self, name: str, text: bytes) -> str | None:
        if b"0 &&" in text:
            return None
        return "original" if b"(!(" in text or text == TEXT else str(hash(text))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "drivers").mkdir()
    (tmp_path / FILE).write_bytes(TEXT)
    return tmp_path


def test_mutants_have_names_of_their_own(source: Path) -> None:
    names = [mutant.id for mutant in mutants_of(source, PATH)]
    assert len(names) == len(set(names))
    assert "f-4-no-error" in names


def test_functions_can_be_chosen_and_unknown_ones_are_refused(source: Path) -> None:
    assert {mutant.edit.function for mutant in mutants_of(source, PATH, ["g"])} == {"g"}
    with pytest.raises(UsageError, match="not on this kernel's export path: k"):
        mutants_of(source, PATH, ["k"])


def test_mutants_are_found_again_by_their_ids(source: Path) -> None:
    found = mutants_of(source, PATH)
    assert with_ids(found, [found[3].id, found[1].id]) == [found[1], found[3]]
    with pytest.raises(UsageError, match="no mutant f-9-no-error"):
        with_ids(found, ["f-9-no-error"])


def test_a_seed_draws_the_same_mutants_and_counts_those_it_dropped(source: Path) -> None:
    all_of_them = mutants_of(source, PATH)
    drawn = [sample(all_of_them, {FILE: TEXT}, Compiler(), count=None, seed=7, jobs=2) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert (drawn[0].refused, drawn[0].same) == (1, 1)
    assert len(drawn[0].mutants) == len(all_of_them) - 2
    few = sample(all_of_them, {FILE: TEXT}, Compiler(), count=2, seed=7, jobs=1)
    assert few.mutants == drawn[0].mutants[:2]


def test_a_kernel_is_shared_by_mutants_of_different_functions(source: Path) -> None:
    shared = groups(mutants_of(source, PATH), size=4)
    assert sum(map(len, shared)) == len(mutants_of(source, PATH))
    for group in shared:
        functions = [mutant.edit.function for mutant in group]
        assert len(functions) == len(set(functions))
    assert all(len(group) <= 1 for group in groups(mutants_of(source, PATH), size=1))


def test_a_group_is_all_of_its_mutants(source: Path) -> None:
    (group, *_) = groups(mutants_of(source, PATH), size=2)
    made = combined(group, {FILE: TEXT})[FILE]
    assert sum(a != b for a, b in zip(made.splitlines(), TEXT.splitlines(), strict=True)) == 2


def test_a_mutant_is_a_patch(source: Path) -> None:
    for mutant in mutants_of(source, PATH):
        (source / FILE).write_bytes(TEXT)
        subprocess.run(
            ["patch", "-p1"],
            cwd=source,
            input=patch_of([mutant], {FILE: TEXT}).encode(),
            check=True,
            capture_output=True,
        )
        assert (source / FILE).read_bytes() == mutant.edit.apply(TEXT)
