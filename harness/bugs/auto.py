# SPDX-License-Identifier: GPL-2.0-only
"""Automatic mutants of the kernel's export path: found by rule, sampled by a seed, written as patches."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from harness.bugs import rules
from harness.bugs.rules import Edit
from harness.config.kernel_path import KernelPath
from harness.errors import UsageError
from harness.kernel.build.compile import ObjectCompiler
from harness.kernel.source.difference import patch_text


@dataclass(frozen=True)
class AutoMutant:
    """One fault that a rule found. ``id`` names it among those of one source: function, line, rule and a number."""

    id: str
    file: str
    edit: Edit
    description: str
    """What stood there, and what stands there now."""


def mutants_of(source: Path, path: KernelPath, functions: Collection[str] = ()) -> list[AutoMutant]:
    """Return every mutant of the path's functions, or of those in ``functions``, in the order of the sources.

    Raises UsageError for a function that is not on the path, or not in this source."""
    known = {name for names in path.files.values() for name in names}
    if unknown := sorted(set(functions) - known):
        raise UsageError(f"not on this kernel's export path: {', '.join(unknown)}", hint="vm-configs/kernel-path.yaml")
    return [
        mutant
        for file, names in path.files.items()
        if (source / file).is_file()
        for mutant in of_file(file, (source / file).read_bytes(), [n for n in names if not functions or n in functions])
    ]


def of_file(file: str, text: bytes, names: Sequence[str]) -> Iterator[AutoMutant]:
    """Yield every mutant of some functions of a file. ``text``: the file as it is."""
    numbers: dict[str, int] = {}
    for name in names:
        for edit in rules.edits(text, name):
            stem = f"{edit.function}-{edit.line}-{edit.rule}"
            numbers[stem] = numbers.get(stem, 0) + 1
            identity = stem if numbers[stem] == 1 else f"{stem}-{numbers[stem]}"
            yield AutoMutant(identity, file, edit, edit.describe(text))


def with_ids(candidates: Sequence[AutoMutant], ids: Collection[str]) -> list[AutoMutant]:
    """Return the mutants with these ids. Raises UsageError for an id that the source has no mutant for."""
    if unknown := sorted(set(ids) - {mutant.id for mutant in candidates}):
        raise UsageError(
            f"this source has no mutant {', '.join(unknown[:5])}", hint="use the kernel, SERIES= and FIXED= of that run"
        )
    return [mutant for mutant in candidates if mutant.id in ids]


@dataclass
class Sample:
    """Mutants that compile and change the code, and how many were dropped on the way because they do not."""

    mutants: list[AutoMutant] = field(default_factory=list)
    refused: int = 0
    """Not accepted by the compiler without a warning."""
    same: int = 0
    """Same object code as the original."""


def sample(
    candidates: Sequence[AutoMutant],
    texts: Mapping[str, bytes],
    compiler: ObjectCompiler,
    *,
    count: int | None,
    seed: int,
    jobs: int,
) -> Sample:
    """Draw ``count`` usable mutants (None: all) in the random order that ``seed`` gives; the same for the same seed.

    ``texts``: the files that they change, as they are."""
    order = list(candidates)
    random.Random(seed).shuffle(order)
    found = Sample()
    originals: dict[str, str | None] = {}

    def compiled(mutant: AutoMutant) -> str | None:
        return compiler.compile(mutant.file, mutant.edit.apply(texts[mutant.file]))

    with ThreadPoolExecutor(jobs) as pool:
        while order and (count is None or len(found.mutants) < count):
            missing = len(order) if count is None else count - len(found.mutants)
            batch, order = order[:missing], order[missing:]
            for file in {mutant.file for mutant in batch} - originals.keys():
                originals[file] = compiler.compile(file, texts[file])
            for mutant, digest in zip(batch, pool.map(compiled, batch), strict=True):
                if digest is None:
                    found.refused += 1
                elif digest == originals[mutant.file]:
                    found.same += 1
                else:
                    found.mutants.append(mutant)
    return found


def groups(mutants: Sequence[AutoMutant], size: int) -> list[list[AutoMutant]]:
    """Share mutants among as few kernels as possible: at most ``size`` in one, and no two of one function."""
    shared: list[list[AutoMutant]] = []
    for mutant in mutants:
        room = next(
            (group for group in shared if len(group) < size and _independent(mutant, group)),
            None,
        )
        if room is None:
            shared.append([mutant])
        else:
            room.append(mutant)
    return shared


def _independent(mutant: AutoMutant, group: Sequence[AutoMutant]) -> bool:
    return all((mutant.file, mutant.edit.function) != (other.file, other.edit.function) for other in group)


def combined(group: Sequence[AutoMutant], sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what the files become with all mutants of a group. ``sources``: the files as they are."""
    made: dict[str, bytes] = {}
    for mutant in sorted(group, key=lambda each: each.edit.start, reverse=True):
        made[mutant.file] = mutant.edit.apply(made.get(mutant.file, sources[mutant.file]))
    return made


def patch_of(group: Sequence[AutoMutant], sources: Mapping[str, bytes]) -> str:
    """Return a unified diff with all mutants of a group, which ``run --series`` takes."""
    diffs = (patch_text(file, sources[file], text) for file, text in combined(group, sources).items())
    return f"{', '.join(mutant.id for mutant in group)}\n\n{''.join(diffs)}"
