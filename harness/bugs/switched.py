# SPDX-License-Identifier: GPL-2.0-only
"""One kernel with many mutants, of which a boot parameter turns some on: so that no mutant costs a build.

Each mutant is a copy of its function with the fault in it. The function itself becomes a switch: it calls the copy of
the first mutant that is on, or else the copy without a fault.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.bugs.auto import AutoMutant
from harness.bugs.rules import Signature, signature

HOME = "drivers/dma-buf/dma-buf.c"
"""The file that defines the parameter: it is built in wherever vfio can export, and includes module.h."""
PARAMETER = "dma_buf.vfio_harness_mutants"
_SWITCH = "vfio_harness_mutant"
_DECLARATION = f"extern unsigned char {_SWITCH}[];\n"
_DEFINITION = f"""
unsigned char {_SWITCH}[%d];
EXPORT_SYMBOL_GPL({_SWITCH});

static int {_SWITCH}_set(const char *val, const struct kernel_param *kp)
{{
	int number, used;

	while (sscanf(val, "%%d%%n", &number, &used) == 1) {{
		if (number < 0 || number >= ARRAY_SIZE({_SWITCH}))
			return -EINVAL;
		{_SWITCH}[number] = 1;
		val += used;
		if (*val != ',')
			break;
		val++;
	}}
	return 0;
}}

static const struct kernel_param_ops {_SWITCH}_ops = {{ .set = {_SWITCH}_set }};
module_param_cb(vfio_harness_mutants, &{_SWITCH}_ops, NULL, 0);
"""


def kernel_argument(numbers: Iterable[int]) -> str:
    """Return the boot parameter that turns on some mutants. ``numbers``: their positions in ``SwitchedMutants``."""
    return f"{PARAMETER}={','.join(map(str, numbers))}"


@dataclass(frozen=True)
class SwitchedMutants:
    """A ``SourceChange``: every mutant is in the kernel, and none is on."""

    mutants: Sequence[AutoMutant]

    @property
    def name(self) -> str:
        """Name the change."""
        return f"{len(self.mutants)} mutants, switched off"

    @property
    def patches(self) -> tuple[str, ...]:
        """Return no patch: nothing is on."""
        return ()

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the changed files."""
        by_file: dict[str, list[tuple[int, AutoMutant]]] = defaultdict(list)
        for number, mutant in enumerate(self.mutants):
            by_file[mutant.file].append((number, mutant))
        made = {file: with_copies((source / file).read_bytes(), numbered) for file, numbered in by_file.items()}
        home = made.get(HOME, (source / HOME).read_bytes())
        return made | {HOME: home + (_DEFINITION % max(len(self.mutants), 1)).encode()}


def with_copies(source: bytes, numbered: Sequence[tuple[int, AutoMutant]]) -> bytes:
    """Return a file with a copy of its function for each mutant. ``numbered``: the mutants of this file."""
    by_function: dict[str, list[tuple[int, AutoMutant]]] = defaultdict(list)
    for number, mutant in numbered:
        by_function[mutant.edit.function].append((number, mutant))
    signatures = {name: signature(source, name) for name in by_function}
    text = source
    for name, found in sorted(signatures.items(), key=lambda item: item[1].start, reverse=True):
        text = text[: found.start] + _switch(source, found, by_function[name]) + text[found.end :]
    return _DECLARATION.encode() + text


def _switch(source: bytes, found: Signature, numbered: Sequence[tuple[int, AutoMutant]]) -> bytes:
    """Return what a function's definition becomes: its prototype, its copies, and the switch."""
    head = source[found.start : found.body].rstrip()
    original = source[found.start : found.end]
    parts = [head + b";", _copy(original, found, found.copy("original"))]
    calls = []
    for number, mutant in numbered:
        length = len(mutant.edit.text) - (mutant.edit.end - mutant.edit.start)
        parts.append(
            _copy(mutant.edit.apply(source)[found.start : found.end + length], found, copy := found.copy(number))
        )
        calls.append(f"\tif (unlikely({_SWITCH}[{number}]))\n\t\t{found.call(copy)}\n")
    calls.append(f"\t{found.call(found.copy('original'))}\n")
    return b"\n\n".join([*parts, head + b"\n{\n" + "".join(calls).encode() + b"}"])


def _copy(definition: bytes, found: Signature, name: str) -> bytes:
    start, end = found.name_start - found.start, found.name_end - found.start
    static = b"" if definition.split(None, 1)[0] == b"static" else b"static "
    return static + definition[:start] + name.encode() + definition[end:]
