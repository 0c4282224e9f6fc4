# SPDX-License-Identifier: GPL-2.0-only
"""Read the patches in a file: a diff, a mail of git format-patch, or the mbox of a thread from lore.kernel.org.

Python's email package parses a mail. Its mailbox.mbox does not find the mails: it begins a new one at any line that
starts with "From ", which the text of a patch may contain. b4 sorts a thread better, but only if it can fetch it.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from harness.errors import UsageError

_GZIP = b"\x1f\x8b"
_MAIL_BEGINS = re.compile(rb"^(?=From \S+ .*\d\d:\d\d(?::\d\d)?.* \d{4}$)", re.M)
"""As git mailsplit does: a line of a mail's text may begin with "From", too."""
_DIFF_BEGINS = re.compile(rb"^(?:diff -|--- [^\s/]*/|Index: )", re.M)
_TAG = re.compile(r"^\s*\[([^\]]*)\]\s*")
_VERSION = re.compile(r"\bv(\d+)\b", re.I)
_NUMBER = re.compile(r"\b(\d+)/(\d+)\b")
_REPLY = re.compile(r"^\s*(?:re|aw|fwd?)\s*:", re.I)


@dataclass(frozen=True)
class Patch:
    """One patch."""

    subject: str
    """Its subject, without [PATCH ...]."""
    diff: bytes
    """Its diff, with Unix newlines."""
    version: int = 1
    """The version of its series."""
    number: tuple[int, int] | None = None
    """Its number in the series and the size of the series: (3, 7) for "3/7"."""
    message_id: str = field(default="", compare=False)
    """The Message-ID of its mail, without angle brackets; empty without one."""

    @property
    def name(self) -> str:
        """Name the patch in messages: ``3/7 vfio/pci: ...``."""
        return f"{self.number[0]}/{self.number[1]} {self.subject}" if self.number else self.subject


def read_file(path: Path) -> list[Patch]:
    """Return the patches of one file, in order, without the cover letter, replies, and earlier versions of a thread.

    Raises UsageError if there is no patch, or one is missing."""
    found = _read(path)
    if not found:
        raise UsageError(f"SERIES={path}: there is no patch in it")
    return _in_order(found, path)


def read_directory(path: Path) -> list[Patch]:
    """Return the patches of the files in a directory, by file name. Raises UsageError if there are none."""
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    found = [patch for file in files for patch in _read(file)]
    if not found:
        raise UsageError(f"SERIES={path}: there is no patch in its {len(files)} files")
    return found


def _read(path: Path) -> list[Patch]:
    data = path.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{path}: {error}") from None
    data = data.replace(b"\r\n", b"\n")
    mails = [_from_mail(message_from_bytes(text, policy=policy.default)) for text in _MAIL_BEGINS.split(data) if text]
    found = [mail for mail in mails if mail]
    if not found and (begin := _DIFF_BEGINS.search(data)):
        title = data[: begin.start()].decode(errors="replace").strip().partition("\n")[0]
        found = [Patch(title or path.name, data[begin.start() :])]
    return list(dict.fromkeys(found))  # lore has one copy of a mail for each list


def _from_mail(mail: EmailMessage) -> Patch | None:
    """Return the patch in a mail; None without a diff, and for a cover letter (it may quote a diff) or a reply."""
    subject = " ".join(str(mail.get("Subject", "")).split())
    if not subject or _REPLY.match(subject):
        return None
    texts = [part.get_payload(decode=True) for part in mail.walk() if part.get_content_maintype() == "text"]
    body = b"\n".join(text for text in texts if isinstance(text, bytes)).replace(b"\r\n", b"\n")
    tag = _TAG.match(subject)
    version = _VERSION.search(tag[1]) if tag else None
    number = _NUMBER.search(tag[1]) if tag else None
    begin = _DIFF_BEGINS.search(body)
    if not begin or (number and int(number[1]) == 0):
        return None
    return Patch(
        subject=_TAG.sub("", subject) or subject,
        diff=body[begin.start() :],
        version=int(version[1]) if version else 1,
        number=(int(number[1]), int(number[2])) if number else None,
        message_id=_message_id(mail),
    )


def _message_id(mail: EmailMessage) -> str:
    """Return the Message-ID as it was sent: the parser of ``get`` rejects some that are in use."""
    values = (str(value) for name, value in mail.raw_items() if name.lower() == "message-id")
    return next(values, "").strip().strip("<>")


def _in_order(found: Sequence[Patch], path: Path) -> list[Patch]:
    """Return the latest version's patches by number; without numbers, all patches in file order."""
    if not any(patch.number for patch in found):
        return list(found)
    latest = max(patch.version for patch in found if patch.number)
    numbered = [(patch.number, patch) for patch in found if patch.number and patch.version == latest]
    numbered.sort(key=lambda pair: pair[0])
    total = max(size for (_, size), _ in numbered)
    numbers = [number for (number, _), _ in numbered]
    if missing := _listed(number for number in range(1, total + 1) if number not in numbers):
        raise UsageError(f"{path}: v{latest} of the series has {total} patches, and these are not in it: {missing}")
    if twice := _listed(sorted({number for number in numbers if numbers.count(number) > 1})):
        raise UsageError(f"{path}: more than one patch is number {twice} of {total}", hint="name a directory of them")
    return [patch for _, patch in numbered]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
