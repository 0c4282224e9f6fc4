# SPDX-License-Identifier: GPL-2.0-only
"""The fix of a bug as a mail that ``git am`` takes, made from the catalogue's patch for one source tree."""

import os
import re
import tempfile
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path

from harness.bugs.catalogue import Bug
from harness.bugs.kernel_scripts import Recipients
from harness.errors import UsageError
from harness.host import process
from harness.kernel import Series
from harness.kernel.source.git import run_git
from harness.progress import silent

_DIFF = re.compile(r"^--- ", re.M)


@dataclass(frozen=True)
class Author:
    """Who sends a patch, and signs it off."""

    name: str
    address: str

    @classmethod
    def parse(cls, text: str) -> "Author":
        """Read ``Name <address>``. Raises UsageError for anything else."""
        name, address = parseaddr(text)
        if not name or "@" not in address:
            raise UsageError(f"--from {text!r}: not of the form 'Name <address>'")
        return cls(name, address)

    @classmethod
    def of_git(cls) -> "Author":
        """Return the user's own name in git. Raises UsageError if git knows none."""
        values = []
        for key in ("user.name", "user.email"):
            lines: list[str] = []
            process.run(["git", "config", key], cwd=Path.cwd(), on_line=lines.append)
            values.append(lines[0] if lines else "")
        if not all(values):
            raise UsageError("git knows no user.name and user.email, which sign the patch", hint="name them by --from")
        return cls(*values)

    def __str__(self) -> str:
        """Format it for a header or a trailer."""
        return f"{self.name} <{self.address}>"


def text_of(entry: Bug) -> str:
    """Return the subject and the text of the catalogue's patch. Raises UsageError if the entry has none."""
    if not entry.fix_path:
        raise UsageError(f"{entry.path}: the entry has no fix")
    text = entry.fix_path.read_text(encoding="utf-8")
    return text[: found.start()].strip() if (found := _DIFF.search(text)) else text.strip()


def fix_mail(entry: Bug, source: Path, author: Author, recipients: Recipients | None = None) -> str:
    """Return the fix of an entry as ``git format-patch`` writes it, with Fixes: and Signed-off-by.

    The diff is made anew, because ``git am`` accepts no fuzz.

    Raises UsageError if the entry has no fix, KernelError if it does not apply to ``source``."""
    message = text_of(entry)
    trailers = [f"Fixes: {entry.introduced_by}"] if entry.introduced_by else []
    trailers.append(f"Signed-off-by: {author}")
    changed = Series.load(str(entry.fix_path), silent).files(source)
    with tempfile.TemporaryDirectory(prefix="vfio-harness-") as tmp:
        repository = Path(tmp)
        git = _Git(repository, author)
        git("init", "--quiet")
        for name in changed:
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_file():
                (repository / name).write_bytes((source / name).read_bytes())
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "-m", "base")
        for name, text in changed.items():
            if text is None:
                (repository / name).unlink()
            else:
                (repository / name).write_bytes(text)
        (repository / "message").write_text(f"{message}\n\n" + "\n".join(trailers) + "\n", encoding="utf-8")
        git("add", "--", *changed)
        git("commit", "--quiet", "-F", "message")
        addressed = recipients or Recipients((), ())
        to = [f"--to={who}" for who in addressed.to] + [f"--cc={who}" for who in addressed.cc]
        (name,) = git("format-patch", "-1", *to)
        return (repository / name).read_text(encoding="utf-8")


class _Git:
    """Runs git in a repository of its own, without the user's configuration."""

    def __init__(self, repository: Path, author: Author) -> None:
        self._repository = repository
        self._env = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CEILING_DIRECTORIES": str(repository.parent),
        }
        for role in ("AUTHOR", "COMMITTER"):
            self._env |= {f"GIT_{role}_NAME": author.name, f"GIT_{role}_EMAIL": author.address}

    def __call__(self, *args: str) -> list[str]:
        """Run a command; return the lines of its output. Raises HarnessError if it fails."""
        return run_git(self._repository, *args, env=self._env)
