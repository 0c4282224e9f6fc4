# SPDX-License-Identifier: GPL-2.0-only
"""Compile one changed file of a built kernel by itself, to learn whether it compiles and whether its code differs."""

import hashlib
import re
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

COMPILE_TIMEOUT_S = 120.0
_GCOV = ("-fprofile-arcs", "-ftest-coverage")
"""Left out: an object with counters names the file that gets them, so no two of them are the same."""
_SAVED = re.compile(r"^(?:saved)?cmd_\S+ := (?P<command>.*?)(?:\s*; .*)?$", re.M)
"""What Kbuild ran for an object (scripts/Kbuild.include, ``if_changed_rule``; ``cmd_`` before 6.3). objtool follows."""


@dataclass(frozen=True)
class ObjectCompiler:
    """Compiles a file as the build in ``build_dir`` did, but for the file's text."""

    build_dir: Path

    def compile(self, name: str, text: bytes, *, warnings: bool = False) -> str | None:
        """Compile ``text`` as the source file ``name`` (relative to the source tree).

        Returns a digest of the object, or None if it does not compile. Unless ``warnings`` are allowed, a warning is an
        error: no developer would send it.
        Raises HarnessError if the build has no record of the file."""
        with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
            source, output = Path(tmp, Path(name).name), Path(tmp, "object.o")
            source.write_bytes(text)
            # __FILE__ must not depend on the temporary directory.
            extra = [*([] if warnings else ["-Werror"]), f"-fmacro-prefix-map={tmp}/="]
            command = [*self._command(name), *extra, "-c", "-o", str(output), str(source)]
            ended = subprocess.run(
                command, cwd=self.build_dir, capture_output=True, check=False, timeout=COMPILE_TIMEOUT_S
            )
            if ended.returncode:
                return None
            subprocess.run(["strip", "--strip-debug", output], check=True, timeout=COMPILE_TIMEOUT_S)
            return hashlib.sha256(output.read_bytes()).hexdigest()

    def _command(self, name: str) -> list[str]:
        """The recorded compiler call, without its output and its source."""
        directory, _, file = name.rpartition("/")
        record = self.build_dir / directory / f".{file.removesuffix('.c')}.o.cmd"
        saved = _SAVED.search(record.read_text()) if record.is_file() else None
        if saved is None:
            raise HarnessError(f"{self.build_dir} has no record of how {name} was compiled")
        words = shlex.split(saved["command"])
        before_output = words[: words.index("-c")]
        return [word for word in before_output if not word.startswith(("-Wp,-MMD", *_GCOV))]
