# SPDX-License-Identifier: GPL-2.0-only
"""The fix of a bug as a mail: git am takes it, and the kernel's scripts judge and address it."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.bugs import Bug, load_bugs
from harness.bugs.fix_mail import Author, fix_mail, text_of
from harness.bugs.kernel_scripts import Recipients, checkpatch, recipients
from harness.errors import UsageError

FIELDS = ("title", "reporter", "thread", "affected", "fixed", "symptom", "trigger")
FILE = "drivers/vfio/a.c"
SOURCE = "".join(f"\tline{number}();\n" for number in range(12))
PATCH = """vfio: Call line five twice

Once is not enough.

--- a/drivers/vfio/a.c
+++ b/drivers/vfio/a.c
@@ -4,3 +4,4 @@ void f(void)
 \tline3();
 \tline4();
+\tline5();
 \tline5();
"""
AUTHOR = Author("Ä. Author", "a@example.org")


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bug:
    monkeypatch.setenv("VFIO_HARNESS_BUGS", str(tmp_path))
    (tmp_path / "x.fix.patch").write_text(PATCH)
    introduced = {"commit": "5d74781ebc86c", "subject": "vfio/pci: Add dma-buf export support for MMIO regions"}
    expects = {"verdict": "FAIL", "cases": ["test_a::*"]}
    data = {"id": "x", **dict.fromkeys(FIELDS, "-"), "date": "2026", "expects": expects}
    return Bug.model_validate_json(json.dumps({**data, "fix": "x.fix.patch", "introduced_by": introduced}))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree = tmp_path / "linux"
    (tree / FILE).parent.mkdir(parents=True)
    # One line more than the patch expects: git am would refuse the catalogue's own diff.
    (tree / FILE).write_text(f"\tfirst();\n{SOURCE}")
    return tree


def git(tree: Path, *args: str) -> str:
    named = ("-c", "user.name=c", "-c", "user.email=c@example.org")
    return subprocess.run(["git", *named, *args], cwd=tree, capture_output=True, text=True, check=True).stdout


def test_git_am_takes_it(entry: Bug, source: Path, tmp_path: Path) -> None:
    text = fix_mail(entry, source, AUTHOR, Recipients(("M <m@example.org>",), ("l@example.org",)))
    assert (source / FILE).read_text() == f"\tfirst();\n{SOURCE}", "the tree is not written"
    git(source, "init", "--quiet")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "-m", "base")
    (tmp_path / "mail").write_text(text)
    git(source, "am", "--quiet", str(tmp_path / "mail"))
    assert (source / FILE).read_text().count("line5") == 2
    assert git(source, "log", "-1", "--format=%an <%ae>%n%B").strip() == (
        "Ä. Author <a@example.org>\nvfio: Call line five twice\n\nOnce is not enough.\n\n"
        'Fixes: 5d74781ebc86 ("vfio/pci: Add dma-buf export support for MMIO regions")\n'
        "Signed-off-by: Ä. Author <a@example.org>"
    )
    assert "\nTo: M <m@example.org>\nCc: l@example.org\n" in text


def test_the_users_git_configuration_changes_nothing(
    entry: Bug, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text("[format]\n\tsubjectPrefix = WRONG\n[commit]\n\tgpgSign = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert "Subject: [PATCH] vfio: Call line five twice" in fix_mail(entry, source, AUTHOR)


def test_the_author_is_the_one_of_git_or_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Author.parse("Some One <one@example.org>") == Author("Some One", "one@example.org")
    with pytest.raises(UsageError, match="not of the form"):
        Author.parse("one@example.org")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"git knows no user.name"):
        Author.of_git()
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Some One\n\temail = one@example.org\n")
    assert Author.of_git() == Author("Some One", "one@example.org")


def script(source: Path, name: str, text: str) -> None:
    (source / "scripts").mkdir(exist_ok=True)
    (source / "scripts" / name).write_text(text)


def test_complaints_of_checkpatch(source: Path, tmp_path: Path) -> None:
    said = 'print "ERROR: trailing whitespace\\n#9: FILE: a.c:1:\\n\\nWARNING: @ARGV\\nCHECK: style\\n"; exit 1;'
    script(source, "checkpatch.pl", said)
    found = checkpatch(source, tmp_path / "0001.patch")
    assert found[0] == "ERROR: trailing whitespace"
    assert len(found) == 2
    assert "--ignore=UNKNOWN_COMMIT_ID" in found[1]
    (source / ".git").mkdir()
    assert "UNKNOWN_COMMIT_ID" not in checkpatch(source, tmp_path / "0001.patch")[1]


def test_maintainers_are_to_and_the_others_cc(source: Path) -> None:
    said = (
        "A B <a@example.org> (maintainer:VFIO DRIVER)\n"
        '\\"C (D)\\" <c@example.org> (supporter:X (Y))\n'
        "E <e@example.org> (reviewer:VFIO DRIVER)\n"
        "kvm@vger.kernel.org (open list:VFIO DRIVER)\n"
        "linux-kernel@vger.kernel.org (open list)\n"
    )
    script(source, "get_maintainer.pl", f'print "{said.replace("@", chr(92) + "@")}";')
    assert recipients(source, file=FILE) == Recipients(
        ("A B <a@example.org>", '"C (D)" <c@example.org>'),
        ("E <e@example.org>", "kvm@vger.kernel.org", "linux-kernel@vger.kernel.org"),
    )


def test_a_tree_without_the_scripts_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"linux has no scripts/checkpatch.pl"):
        checkpatch(source, tmp_path / "0001.patch")


@pytest.mark.parametrize("bug", [bug for bug in load_bugs() if bug.fix], ids=lambda bug: bug.id)
def test_the_catalogues_fixes_have_what_a_mail_needs(bug: Bug) -> None:
    subject, _, rest = text_of(bug).partition("\n")
    assert bug.introduced_by
    assert len(subject) <= 75
    assert rest.startswith("\n")
    assert [line for line in rest.splitlines() if len(line) > 75] == [], "checkpatch.pl warns of longer lines"
