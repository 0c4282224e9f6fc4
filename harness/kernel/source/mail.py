# SPDX-License-Identifier: GPL-2.0-only
"""The patches in a file: a diff, a mail of git format-patch, or the mbox of a thread, as lore.kernel.org has it."""

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from harness.errors import UsageError

_GZIP = b"\x1f\x8b"
_MAIL_BEGINS = re.compile(rb"^(?=From \S+ .*\d\d:\d\d(?::\d\d)?.* \d{4}$)", re.M)
"""As git mailsplit: a line of a letter may begin with "From", too."""
_DIFF_BEGINS = re.compile(rb"^(?:diff -|--- [^\s/]*/|Index: )", re.M)
_TAG = re.compile(r"^\s*\[([^\]]*)\]\s*")
_VERSION = re.compile(r"\bv(\d+)\b", re.I)
_PLACE = re.compile(r"\b(\d+)/(\d+)\b")
_REPLY = re.compile(r"^\s*(?:re|aw|fwd?)\s*:", re.I)


@dataclass(frozen=True)
class Patch:
    """``subject``: without its [PATCH ...]; ``place``: (3, 7) for "3/7"; ``diff``: with newlines as Unix has them."""

    subject: str
    diff: bytes
    version: int = 1
    place: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """For people: ``3/7 vfio/pci: ...``."""
        return f"{self.place[0]}/{self.place[1]} {self.subject}" if self.place else self.subject


def read_file(path: Path) -> list[Patch]:
    """The patches of one file, in their order. A thread's cover letter, replies, and earlier versions are left out.

    Raises UsageError if there is none, or one is missing."""
    found = _read(path)
    if not found:
        raise UsageError(f"{path}: there is no patch in it")
    return _in_order(found, path)


def read_directory(path: Path) -> list[Patch]:
    """The patches of the files in a directory, in the order of their names. Raises UsageError if there is none."""
    files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
    found = [patch for file in files for patch in _read(file)]
    if not found:
        raise UsageError(f"{path}: there is no patch in its {len(files)} files")
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
    return list(dict.fromkeys(found))  # lore has a mail once for each list it went to


def _from_mail(mail: EmailMessage) -> Patch | None:
    """The patch in a mail; None for one without, for a cover letter (it may quote a diff) and for a reply."""
    subject = " ".join(str(mail.get("Subject", "")).split())
    if not subject or _REPLY.match(subject):
        return None
    texts = [part.get_payload(decode=True) for part in mail.walk() if part.get_content_maintype() == "text"]
    body = b"\n".join(text for text in texts if isinstance(text, bytes)).replace(b"\r\n", b"\n")
    tag = _TAG.match(subject)
    version = _VERSION.search(tag[1]) if tag else None
    place = _PLACE.search(tag[1]) if tag else None
    begin = _DIFF_BEGINS.search(body)
    if not begin or (place and int(place[1]) == 0):
        return None
    return Patch(
        subject=_TAG.sub("", subject) or subject,
        diff=body[begin.start() :],
        version=int(version[1]) if version else 1,
        place=(int(place[1]), int(place[2])) if place else None,
    )


def _in_order(found: Sequence[Patch], path: Path) -> list[Patch]:
    """The latest version's patches by their numbers; as they come, where they have none."""
    if not any(patch.place for patch in found):
        return list(found)
    latest = max(patch.version for patch in found if patch.place)
    series = sorted((patch for patch in found if patch.place and patch.version == latest), key=lambda p: p.place or ())
    total = max(patch.place[1] for patch in series if patch.place)
    places = [patch.place[0] for patch in series if patch.place]
    if missing := _listed(number for number in range(1, total + 1) if number not in places):
        raise UsageError(f"{path}: v{latest} of the series has {total} patches, and these are not in it: {missing}")
    if twice := _listed(sorted({number for number in places if places.count(number) > 1})):
        raise UsageError(f"{path}: more than one patch is number {twice} of {total}", hint="name a directory of them")
    return series


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
