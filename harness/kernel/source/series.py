# SPDX-License-Identifier: GPL-2.0-only
"""Apply the patches of SERIES= to a copy of the files that they touch."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, KernelError, MissingPrerequisite, UsageError
from harness.host import process
from harness.host.faults import host_fault
from harness.host.files import write_atomically
from harness.host.packages import find, install_line
from harness.kernel.cache import cache_path, digest
from harness.kernel.model import SentPatch, SourceChange
from harness.kernel.source import mail
from harness.kernel.source.change import SourceChanges
from harness.kernel.source.mail import Patch
from harness.progress import Emit, Note, phase

ACCEPTED = "SERIES= takes an mbox, a directory of patches, a patch, or a message-id of lore.kernel.org"
_MESSAGE_ID = re.compile(r"^(?:https?://\S+?/)?<?([^\s<>/]+@[^\s<>/]+)>?/?(?:[rT]/?|t\.mbox\.gz)?$")
_FILE = re.compile(
    rb"^(?:(?:---|\+\+\+) [^/\s]+/([^\t\n]+)|(?:rename|copy) (?:from|to) (.+)|diff --git a/(\S+) b/\S+$)", re.M
)
_PATCHING = re.compile(r"^patching (?:file|symbolic link) '?(\S+?)'?(?: |$)")
_FUZZ = re.compile(r"^Hunk #(\d+) succeeded at (\d+) with fuzz (\d+)")
_FAILED = re.compile(r"^Hunk #(\d+) FAILED at (\d+)")
_NO_FILE = re.compile(r"^\|(?:---|\+\+\+) [^/\s]+/(\S+)")
_REJECTED_LINES = 16


@dataclass(frozen=True)
class Series:
    """A series of patches as a ``SourceChange``."""

    given: str
    """The value of SERIES=."""
    mails: Sequence[Patch]
    """Its patches, in order."""
    emit: Emit
    """Gets a note for each hunk that applies with fuzz."""

    @classmethod
    def load(cls, given: str, emit: Emit) -> "Series":
        """Read the patches. Raises UsageError if there are none, MissingPrerequisite if a message-id needs b4."""
        path = Path(given).expanduser()
        if not path.exists() and (message := _MESSAGE_ID.match(given)):
            given = message[1]
            path = _fetched(given, emit)
        try:
            found = mail.read_directory(path) if path.is_dir() else mail.read_file(path)
        except FileNotFoundError:
            raise UsageError(f"SERIES={given}: no such file", hint=ACCEPTED) from None
        except OSError as error:
            raise UsageError(f"SERIES={given}: {error.strerror}", hint=ACCEPTED) from None
        return cls(given, found, emit)

    @property
    def name(self) -> str:
        """Return the last component of SERIES=."""
        return Path(self.given).name

    @property
    def patches(self) -> tuple[str, ...]:
        """Return the subjects of the patches."""
        return tuple(patch.name for patch in self.mails)

    @property
    def touched(self) -> frozenset[str]:
        """Return the files that the patches name, relative to the top of the source."""
        return frozenset(name for patch in self.mails for name in _touched(patch))

    def files(self, source: Path) -> Mapping[str, bytes | None]:
        """Return the patched files. Raises KernelError with patch, file and hunk if one does not apply.

        patch(1) reports where it had to guess (fuzz), which git-am does not."""
        names = self.touched
        with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
            copy = Path(tmp, "source")
            copy.mkdir()
            for name in names:
                if (source / name).is_file():
                    (copy / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(source / name, copy / name)
            for patch in self.mails:
                self._apply(patch, copy, Path(tmp, "patch"))
            return _differences(source, copy, names)

    def _apply(self, patch: Patch, copy: Path, diff: Path) -> None:
        diff.write_bytes(patch.diff)
        lines: list[str] = []
        command: list[str | Path] = ["patch", "-p1", "--force", "--no-backup-if-mismatch", "-i", diff]
        status = process.run(command, cwd=copy, on_line=lines.append)
        if fault := host_fault(lines):
            raise fault
        if status:
            raise KernelError(
                f"{' of '.join(dict.fromkeys([patch.name, self.name]))} does not apply: {_why(lines, copy)}",
                hint="name the kernel that it was written for with KERNEL=",
            )
        file = ""
        for line in lines:
            file = found[1] if (found := _PATCHING.match(line)) else file
            if fuzz := _FUZZ.match(line):
                where = f"{file}, hunk {fuzz[1]} at line {fuzz[2]}"
                self.emit(Note(f"patch    {patch.name}: applied with fuzz {fuzz[3]}: {where}"))


def sent_patches(change: SourceChange) -> tuple[SentPatch, ...]:
    """Return the patches of the series in a change, in order: where each comes from, and a hash of its diff."""
    if isinstance(change, SourceChanges):
        return tuple(patch for part in change.parts for patch in sent_patches(part))
    if not isinstance(change, Series):
        return ()
    return tuple(
        SentPatch(patch.name, patch.message_id, hashlib.sha256(patch.diff).hexdigest()) for patch in change.mails
    )


def _fetched(message_id: str, emit: Emit) -> Path:
    """Return the mbox that ``b4 am`` makes of the series around a message. It is cached: sent mails do not change."""
    kept = cache_path("series", f"{digest(message_id)}.mbx")
    if kept.exists():
        return kept
    if not find("b4"):
        raise MissingPrerequisite(
            f"SERIES={message_id}: fetching a series needs b4, which is not installed",
            hint=f"{install_line(['b4'])}, or save the thread's mbox from lore.kernel.org and name that",
        )
    with phase(emit, "series", message_id) as step, tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
        try:
            process.check(["b4", "am", "-o", tmp, message_id], cwd=Path(tmp))
            made = next(Path(tmp).glob("*.mbx"))
        except StopIteration:
            raise HarnessError(f"SERIES={message_id}: b4 found no series there") from None
        except HarnessError as error:
            raise HarnessError(f"SERIES={message_id}: {error}", hint=f"try: b4 am {message_id}") from error
        step.result = made.name
        write_atomically(kept, made.read_bytes())
    return kept


def _touched(patch: Patch) -> set[str]:
    """Return the files in a diff. A removed line may look like a header: it names a file that does not exist."""
    names = {"".join(part.decode(errors="replace") for part in parts).strip() for parts in _FILE.findall(patch.diff)}
    return {name for name in names if name and not {"..", ""} & {*name.split("/")}}


def _differences(source: Path, copy: Path, names: frozenset[str]) -> dict[str, bytes | None]:
    """Return the files of ``copy`` that differ from ``source``; None for those that are gone."""
    changed: dict[str, bytes | None] = {}
    for path in copy.rglob("*"):
        name = str(path.relative_to(copy))
        if path.is_symlink():
            raise KernelError(f"the series makes {name} a symbolic link, which is not supported")
        if path.is_file():
            text = path.read_bytes()
            if not (source / name).is_file() or (source / name).read_bytes() != text:
                changed[name] = text
    gone = {name for name in names if (source / name).is_file() and not (copy / name).exists()}
    return {**changed, **dict.fromkeys(gone)}


def _why(lines: Sequence[str], copy: Path) -> str:
    """Return the reason in patch(1)'s output: the file, the hunk's number, and the hunk."""
    file = ""
    for line in lines:
        if found := _PATCHING.match(line):
            file = found[1]
        elif found := _FAILED.match(line):
            rejected = (copy / f"{file}.rej").read_text(errors="replace").splitlines()[2:][:_REJECTED_LINES]
            return "\n".join([f"{file}, hunk {found[1]}, at line {found[2]}", *rejected])
        elif found := _NO_FILE.match(line):
            return f"{found[1]}: no such file in this kernel"
        elif line.startswith("patch: ****"):
            return line.removeprefix("patch: ****").strip()
    return next((line for line in reversed(lines) if line), "patch(1) printed nothing")
