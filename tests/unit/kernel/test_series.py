# SPDX-License-Identifier: GPL-2.0-only
"""SERIES=: which mails are patches, their order, and the files after the patches apply."""

import base64
import gzip
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from harness.errors import KernelError, MissingPrerequisite, UsageError
from harness.kernel.source import mail
from harness.kernel.source.change import SourceChanges
from harness.kernel.source.series import Series, sent_patches
from harness.progress import Event, Note, silent

LOCK, MAIN = "drivers/vfio/lock.c", "drivers/vfio/main.c"
LINES = "".join(f"line {number}\n" for number in range(1, 31))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "linux"
    (top / "drivers/vfio").mkdir(parents=True)
    (top / LOCK).write_text(LINES)
    (top / MAIN).write_text(LINES)
    return top


def diff(name: str, line: int, text: str) -> str:
    lines = [f" line {number}\n" for number in range(line - 3, line + 4)]
    lines[3:4] = [f"-line {line}\n", f"+{text}\n"]
    return f"--- a/{name}\n+++ b/{name}\n@@ -{line - 3},7 +{line - 3},7 @@\n{''.join(lines)}"


def letter(subject: str, body: str) -> str:
    return (
        f"From 1234567 Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nDate: Mon, 1 Jun 2026 00:00:00 +0000\n"
        f"Subject: {subject}\n\nA text.\n\nFrom the spec: a line that is no mail.\n---\n{body}-- \n2.39\n\n"
    )


def made(tree: Path, file: Path, events: list[Event] | None = None) -> dict[str, bytes | None]:
    return dict(Series.load(str(file), events.append if events is not None else silent).files(tree))


def test_a_thread_as_lore_has_it(tree: Path, tmp_path: Path) -> None:
    thread = tmp_path / "t.mbox.gz"
    second = letter("[PATCH v2 2/2] vfio: Second", diff(MAIN, 10, "two"))
    text = (
        letter("[PATCH v2 0/2] vfio: Cover", diff(LOCK, 5, "not this"))
        + second
        + letter("Re: [PATCH v2 2/2] vfio: Second", diff(MAIN, 10, "better so"))
        + letter("[PATCH 1/2] vfio: First", diff(LOCK, 5, "earlier version"))
        + letter("[PATCH v2 1/2] vfio: =?utf-8?q?F=C3=BCrst?=", diff(LOCK, 5, "one"))
        + second
    )
    thread.write_bytes(gzip.compress(text.encode()))
    assert Series.load(str(thread), silent).patches == ("1/2 vfio: Fürst", "2/2 vfio: Second")
    files = made(tree, thread)
    assert files == {
        LOCK: LINES.replace("line 5\n", "one\n").encode(),
        MAIN: LINES.replace("line 10\n", "two\n").encode(),
    }
    assert (tree / LOCK).read_text() == LINES


def test_a_directory_is_in_the_order_of_names(tree: Path, tmp_path: Path) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "0000-cover-letter.patch").write_text(letter("[PATCH 0/2] All", ""))
    (patches / "0002-b.patch").write_text(letter("[PATCH 2/2] B", diff(LOCK, 20, "b").replace("-line 20", "-a")))
    (patches / "0001-a.patch").write_text(letter("[PATCH 1/2] A", diff(LOCK, 20, "a")))
    assert made(tree, patches) == {LOCK: LINES.replace("line 20\n", "b\n").encode()}


def test_a_plain_diff_with_dos_newlines(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_text("Talk.\n\n" + diff(LOCK, 20, "x"), newline="\r\n")
    assert made(tree, tmp_path / "fix.patch") == {LOCK: LINES.replace("line 20\n", "x\n").encode()}


def test_a_mail_in_base64(tree: Path, tmp_path: Path) -> None:
    body = base64.encodebytes(("Text.\n---\n" + diff(LOCK, 20, "x")).encode()).decode()
    (tmp_path / "fix.eml").write_text(
        f"From: a@example.org\nSubject: [PATCH] X\nContent-Transfer-Encoding: base64\n\n{body}\n"
    )
    assert made(tree, tmp_path / "fix.eml") == {LOCK: LINES.replace("line 20\n", "x\n").encode()}


def test_git_renames_modes_and_removals(tree: Path, tmp_path: Path) -> None:
    def git(*args: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return subprocess.run(
            ["git", *who, *args], cwd=copy, env=env, check=True, capture_output=True, text=True
        ).stdout

    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("kept.c", "gone.c", "script.sh"):
        (copy / name).write_text(LINES.replace("line", name))
        (tree / name).write_text(LINES.replace("line", name))
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "base")
    git("mv", "kept.c", "renamed.c")
    git("rm", "--quiet", "gone.c")
    (copy / "script.sh").chmod(0o755)
    (copy / "added.c").write_text("added\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "All at once")
    (tmp_path / "all.patch").write_text(git("format-patch", "--stdout", "-M", "HEAD~"))
    renamed = LINES.replace("line", "kept.c").encode()
    assert made(tree, tmp_path / "all.patch") == {
        "renamed.c": renamed,
        "kept.c": None,
        "gone.c": None,
        "added.c": b"added\n",
    }


def test_fuzz_is_reported(tree: Path, tmp_path: Path) -> None:
    (tree / LOCK).write_text(LINES.replace("line 17\n", "another\n"))
    (tmp_path / "fix.patch").write_text(letter("[PATCH] X", diff(LOCK, 20, "x")))
    events: list[Event] = []
    made(tree, tmp_path / "fix.patch", events)
    assert events == [Note(f"patch    X: applied with fuzz 1: {LOCK}, hunk 1 at line 17")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            diff(LOCK, 5, "x") + diff(LOCK, 20, "x").replace("line", "lane").partition("@@")[2].join(["@@", ""]),
            "hunk 2",
        ),
        (diff("drivers/none.c", 5, "x"), "drivers/none.c: no such file in this kernel"),
        (diff(LOCK, 5, "x").replace(" line 6\n", "line 6\n"), "malformed patch at line 9"),
        (diff("../../escaped.c", 5, "x"), ""),
    ],
)
def test_a_patch_that_does_not_apply(tree: Path, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "fix.patch").write_text(text)
    with pytest.raises(KernelError) as error:
        made(tree, tmp_path / "fix.patch")
    assert "fix.patch does not apply: " in str(error.value)
    assert why in str(error.value)
    assert error.value.exit_code == 1


def test_the_rejected_hunk_is_quoted(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "fix.patch").write_text(letter("[PATCH 1/1] X", diff(LOCK, 20, "x").replace("line", "lane")))
    with pytest.raises(
        KernelError, match=r"^1/1 X of fix.patch does not apply: drivers/vfio/lock.c, hunk 1, at line 17"
    ):
        made(tree, tmp_path / "fix.patch")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no patch in it"),
        (letter("[PATCH 0/1] Cover", ""), "there is no patch in it"),
        (
            letter("[PATCH v3 1/3] X", diff(LOCK, 5, "x")),
            "v3 of the series has 3 patches, and these are not in it: 2, 3",
        ),
        (letter("[PATCH 1/1] X", diff(LOCK, 5, "x")) + letter("[PATCH 1/1] Y", diff(LOCK, 5, "y")), "number 1 of 1"),
    ],
)
def test_a_malformed_series(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.mbox").write_text(text)
    with pytest.raises(UsageError, match=why):
        mail.read_file(tmp_path / "x.mbox")


@pytest.mark.parametrize("given", ["/nowhere/fix.patch", "no-such-name", ""])
def test_a_missing_file(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        Series.load(given, silent)


@pytest.mark.parametrize(
    "given",
    [
        "20260601.1-a@example.org",
        "<20260601.1-a@example.org>",
        "https://lore.kernel.org/kvm/20260601.1-a@example.org/T/",
    ],
)
def test_a_message_id_needs_b4(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPrerequisite, match=r"SERIES=20260601.1-a@example.org: .* b4") as error:
        Series.load(given, silent)
    assert error.value.hint
    assert "apt-get install b4" in error.value.hint


def test_a_fetched_series_is_cached(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fetched").write_text(letter("[PATCH] X", diff(LOCK, 20, "x")))
    b4 = tmp_path / "b4"
    b4.write_text(f'#!/bin/sh\ntest "$1 $2 $4" = "am -o 1-a@example.org" && cp {tmp_path}/fetched "$3/v1_x.mbx"\n')
    b4.chmod(0o755)
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert Series.load("1-a@example.org", silent).patches == ("X",)
    b4.unlink()
    series = Series.load("<1-a@example.org>", silent)
    assert series.files(tree) == {LOCK: LINES.replace("line 20\n", "x\n").encode()}


def test_changes_apply_one_after_the_other(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "1.patch").write_text(letter("[PATCH] One", diff(LOCK, 5, "x")))
    (tmp_path / "2.patch").write_text(
        letter("[PATCH] Two", diff(LOCK, 5, "y").replace("-line 5", "-x") + diff(MAIN, 5, "z"))
    )
    both = SourceChanges([Series.load(str(tmp_path / name), silent) for name in ("1.patch", "2.patch")])
    assert both.name == "1.patch + 2.patch"
    assert both.patches == ("One", "Two")
    files = both.files(tree)
    assert files[LOCK] == LINES.replace("line 5\n", "y\n").encode()
    assert files[MAIN] == LINES.replace("line 5\n", "z\n").encode()
    assert (tree / LOCK).read_text() == LINES


def test_the_record_says_which_mails_were_applied(tree: Path, tmp_path: Path) -> None:
    first, second = letter("[PATCH 1/2] vfio: One", diff(LOCK, 5, "one")), diff(MAIN, 9, "two")
    sent = first.replace("Subject:", "Message-ID: <1-a@b.example>\nSubject:")
    (tmp_path / "mbox").write_text(sent + letter("[PATCH 2/2] vfio: Two", second).replace("\n", "\r\n"))
    (tmp_path / "bare.diff").write_text(diff(LOCK, 20, "three"))
    parts = [Series.load(str(tmp_path / name), silent) for name in ("mbox", "bare.diff")]
    found = sent_patches(SourceChanges(parts))
    assert [(p.subject, p.message_id) for p in found] == [
        ("1/2 vfio: One", "1-a@b.example"),
        ("2/2 vfio: Two", ""),
        ("bare.diff", ""),
    ]
    assert found[1].sha256 == hashlib.sha256((second + "-- \n2.39\n\n").encode()).hexdigest()


def test_a_resent_mail_is_one_patch(tree: Path, tmp_path: Path) -> None:
    mail = letter("[PATCH] vfio: One", diff(LOCK, 5, "one"))
    again = mail.replace("Subject:", "Message-ID: <other list>\nSubject:")
    (tmp_path / "mbox").write_text(mail + again)
    assert len(sent_patches(Series.load(str(tmp_path / "mbox"), silent))) == 1
