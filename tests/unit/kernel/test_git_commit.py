# SPDX-License-Identifier: GPL-2.0-only
"""KERNEL=PATH@REF and KERNEL=git:URL@REF. git is real, and so are its repositories."""

import fcntl
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.errors import HarnessError, MissingPrerequisite, UsageError
from harness.kernel.build import patched_tree, tree
from harness.kernel.cache import cache_path
from harness.kernel.model import GitCommit
from harness.kernel.source import clone, commit, git
from harness.kernel.source.resolve import SourceTree, resolve_kernel
from harness.kernel.source.series import Series
from harness.progress import Phase, silent

STEP = Phase(silent, "test")
DRIVER = "drivers/vfio/vfio_main.c"


def run(top: Path, *args: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *args], cwd=top, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(top: Path, message: str) -> str:
    run(top, "add", "--all")
    run(top, "commit", "--quiet", "-m", message)
    return run(top, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tree of twelve commits: each changes the driver, c1 has the tag v7.2, and each has a branch."""
    top = tmp_path_factory.mktemp("history") / "linux"
    (top / DRIVER).parent.mkdir(parents=True)
    run(top, "init", "--quiet")
    for name in ("Kconfig", "Kbuild", "Makefile", "README"):
        (top / name).write_text(f"{name}\r\n")
    (top / "link").symlink_to("README")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o755)
    for number in range(1, 13):
        (top / DRIVER).write_text(f"commit {number}\n")
        commit_all(top, f"commit {number}")
        run(top, "branch", f"c{number}")
        if number == 1:
            run(top, "tag", "-a", "v7.2", "-m", "Linux 7.2")
    return top


@pytest.fixture
def linux(history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the tree. The index has the dates of the original, which git would refresh."""
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(history, tmp_path / "linux", symlinks=True)


def state(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return date and content of each file and directory, ``.git`` included."""
    entries = [top, *top.rglob("*")]
    return {str(e): (e.lstat().st_mtime_ns, e.read_bytes() if e.is_file() else b"") for e in entries}


def dates(top: Path) -> dict[str, int]:
    return {str(e.relative_to(top)): e.lstat().st_mtime_ns for e in top.rglob("*") if not e.is_dir()}


def found(kernel: str) -> SourceTree:
    resolved = resolve_kernel(kernel, silent)
    assert isinstance(resolved, SourceTree)
    return resolved


def driver(source: SourceTree) -> str:
    return (source.path / DRIVER).read_text()


def test_a_commit_of_a_path_is_checked_out_and_the_repository_left_alone(linux: Path) -> None:
    (linux / DRIVER).write_text("an edit that is not committed\n")
    before = state(linux)
    for number in (7, 12, 3):
        source = found(f"{linux}@c{number}")
        assert driver(source) == f"commit {number}\n"
        sha = run(linux, "rev-parse", f"c{number}")
        described = f"v7.2-{number - 1}-g{sha[:12]}"
        assert source.git == GitCommit(str(linux), f"c{number}", sha, described)
        assert source.origin == f"{linux}@c{number} at {sha[:12]}"
    assert state(linux) == before


@pytest.mark.parametrize("ref", ["v7.2", "c9~2", "main^{/commit 4}", "refs/heads/c5", "HEAD", "main@{0}"])
def test_any_name_of_a_commit_is_accepted(linux: Path, ref: str) -> None:
    source = found(f"{linux}@{ref}")
    assert source.git
    assert source.git.commit == run(linux, "rev-parse", f"{ref}^{{commit}}")
    assert source.git.ref == ref


def test_files_are_as_they_were_committed(linux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".gitconfig").write_text(
        '[core]\nautocrlf = true\n[filter "x"]\nsmudge = tr a-z A-Z\nrequired = true\n'
    )
    (tmp_path / ".config" / "git").mkdir(parents=True)
    (tmp_path / ".config" / "git" / "attributes").write_text("* text eol=crlf\n")
    (linux / ".gitattributes").write_text("*.c filter=x\n")
    commit_all(linux, "attributes")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = found(f"{linux}@main").path
    assert (path / "README").read_bytes() == b"README\r\n"
    assert (path / DRIVER).read_bytes() == b"commit 12\n"
    assert (path / "link").readlink() == Path("README")
    assert os.access(path / "run.sh", os.X_OK)


def test_a_later_commit_of_a_ref_writes_only_what_differs(linux: Path, tmp_path: Path) -> None:
    run(linux, "branch", "moving", "c6")
    key, path = (first := found(f"{linux}@moving")).key, first.path
    before = dates(path)
    stamp = tmp_path / "stamp"
    del first
    run(linux, "checkout", "--quiet", "moving")
    (linux / "README").unlink()
    (linux / "new.c").write_text("new\n")
    commit_all(linux, "another")
    run(linux, "branch", "--force", "c6", "main")
    tick(stamp)
    second = found(f"{linux}@moving")
    after = dates(second.path)
    assert (second.key, second.path) == (key, path)
    assert {name for name in before if after.get(name) != before[name]} == {"README"}
    assert after.keys() - before.keys() == {"new.c"}
    assert "./new.c" in (tree.changed_since(second, stamp, STEP) or [])


def tick(stamp: Path) -> None:
    """Make a stamp, and wait for the clock's tick: a file written next gets a later date."""
    stamp.touch()
    clock = stamp.with_name("clock")
    clock.touch()
    while clock.stat().st_mtime_ns == stamp.stat().st_mtime_ns:
        clock.touch()


def test_commits_named_by_their_digits_share_a_checkout(linux: Path) -> None:
    shas = [run(linux, "rev-parse", f"c{number}") for number in (2, 5)]
    keys = set()
    for name in (shas[0], shas[1][:10]):
        source = found(f"{linux}@{name}")
        keys.add(source.key)
        del source
    assert len(keys) == 1
    assert found(f"{linux}@main").key not in keys


def test_a_checkout_in_use_is_shared_or_left_alone(linux: Path) -> None:
    run(linux, "branch", "moving", "c3")
    first, same = found(f"{linux}@moving"), found(f"{linux}@moving")
    assert first.path == same.path
    run(linux, "branch", "--force", "moving", "c4")
    other = found(f"{linux}@moving")
    assert (driver(first), driver(other)) == ("commit 3\n", "commit 4\n")
    assert found(f"{linux}@moving").path == other.path
    path = first.path
    del first, same, other
    assert found(f"{linux}@moving").path != path, "the one that has the commit comes first"
    run(linux, "branch", "--force", "moving", "c5")
    assert found(f"{linux}@moving").path == path, "no third checkout while one is free"


def test_a_checkout_that_is_being_removed_is_left(linux: Path) -> None:
    path = found(f"{linux}@main").path
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    other = found(f"{linux}@main")
    assert other.path != path
    assert driver(other) == "commit 12\n"
    os.close(handle)


def test_a_checkout_in_use_is_locked_and_has_the_date_of_its_use(linux: Path) -> None:
    source = found(f"{linux}@main")
    top = source.path.parent
    os.utime(top, (0, 0))
    same = found(f"{linux}@main")
    assert top.stat().st_mtime > 0
    handle = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    del source, same
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def test_runs_at_the_same_time_share_a_checkout(linux: Path) -> None:
    with ThreadPoolExecutor() as pool:
        sources = list(pool.map(found, [f"{linux}@main"] * 4))
    assert len({source.path for source in sources}) == 1


def damage_index(slot: Path) -> None:
    (slot / "index").write_bytes(b"DIRC")


def edit(slot: Path) -> None:
    (slot / "source" / DRIVER).write_text("edited\n")
    (slot / "source" / "stray.c").write_text("stray\n")


def kill_git(slot: Path) -> None:
    (slot / "index.lock").touch()
    (slot / "commit").unlink()
    (slot / "source" / DRIVER).unlink()


def remove_sources(slot: Path) -> None:
    subprocess.run(["rm", "-r", slot / "source"], check=True)


@pytest.mark.parametrize("hurt", [damage_index, edit, kill_git, remove_sources])
def test_a_damaged_checkout_is_repaired(linux: Path, hurt: object) -> None:
    path = found(f"{linux}@main").path
    assert callable(hurt)
    hurt(path.parent)
    again = found(f"{linux}@main")
    assert again.path == path
    assert driver(again) == "commit 12\n"
    assert not (path / "stray.c").exists()


def test_the_cache_may_be_deleted(linux: Path) -> None:
    path = found(f"{linux}@main").path
    for part in ("git", "checkout"):
        subprocess.run(["rm", "-r", cache_path(part)], check=True)
    assert driver(found(f"{linux}@main")) == "commit 12\n"
    assert path.exists()


def test_a_shallow_clone_and_a_worktree_are_accepted(linux: Path, tmp_path: Path) -> None:
    run(tmp_path, "clone", "--quiet", "--depth=1", f"file://{linux}", "shallow")
    shallow = found(f"{tmp_path / 'shallow'}@main").git
    assert shallow
    assert (shallow.commit, shallow.describe) == (run(linux, "rev-parse", "main"), "")
    run(linux, "worktree", "add", "--quiet", "--detach", str(tmp_path / "work"), "c8")
    assert driver(found(f"{tmp_path / 'work'}@HEAD")) == "commit 8\n"
    run(tmp_path, "clone", "--quiet", "--bare", str(linux), "bare.git")
    assert driver(found(f"{tmp_path / 'bare.git'}@c2")) == "commit 2\n"


def test_a_directory_with_an_at_sign_is_a_tree(linux: Path, tmp_path: Path) -> None:
    linux.rename(tmp_path / "linux@c3")
    assert driver(found(str(tmp_path / "linux@c3"))) == "commit 12\n"
    assert driver(found(f"{tmp_path}/linux@c3@c4")) == "commit 4\n"


@pytest.mark.parametrize(
    ("kernel", "message", "hint"),
    [
        ("{linux}@nowhere", "{linux} has no commit 'nowhere'", "branch --all"),
        ("{linux}@", "'' is no name of a commit", "PATH@REF"),
        ("{linux}@--all", "'--all' is no name of a commit", "PATH@REF"),
        ("{linux}/drivers@main", "{linux}/drivers is no git repository", "the top of a git work tree"),
        ("{tmp}@main", "{tmp} is no git repository", "the top of a git work tree"),
        ("{tmp}/none@main", "no such directory", "git:URL@REF"),
        ("{linux}@empty", "is no kernel source: it has no Kconfig and Kbuild", "Linux tree"),
        ("git:{linux}", "no REF after the URL", "KERNEL=git:URL@REF"),
        ("git:@main", "no REF after the URL", "KERNEL=git:URL@REF"),
        ("git:https://me@example.org/linux.git", "no REF after the URL", "KERNEL=git:URL@REF"),
        ("git:git@example.org:linux.git", "no REF after the URL", "KERNEL=git:URL@REF"),
        ("git:file://{linux}@nowhere", "file://{linux} has no branch or tag 'nowhere'", "git ls-remote file://"),
        ("git:file://{linux}@0123456789", "a commit needs all its 40 digits", "git ls-remote file://"),
        ("git:file://{linux}@" + 40 * "0", "has no such commit", "git ls-remote file://"),
        ("git:file://{tmp}/none@main", "file://{tmp}/none is no git repository", "git ls-remote file://"),
        ("git:{tmp}@main", "{tmp} is no git repository", "git ls-remote"),
        ("git:file://{linux}@empty", "is no kernel source", "Linux tree"),
    ],
)
def test_a_wrong_name_is_refused_with_the_fix(
    linux: Path, tmp_path: Path, kernel: str, message: str, hint: str
) -> None:
    run(linux, "checkout", "--quiet", "--orphan", "empty")
    run(linux, "rm", "-r", "--quiet", "--force", ".")
    (linux / "README").write_text("no kernel\n")
    commit_all(linux, "no kernel")
    (linux / "drivers").mkdir()
    with pytest.raises(UsageError) as raised:
        found(kernel.format(linux=linux, tmp=tmp_path))
    assert message.format(linux=linux, tmp=tmp_path) in str(raised.value)
    assert raised.value.hint
    assert hint in raised.value.hint


def test_a_password_is_refused_and_not_shown(linux: Path) -> None:
    with pytest.raises(UsageError, match="holds a password") as raised:
        found("git:https://me:geheim@example.org/linux.git@main")
    assert "geheim" not in f"{raised.value} {raised.value.hint}"


def test_a_url_is_fetched_and_later_commits_only(linux: Path, tmp_path: Path) -> None:
    url, before = f"file://{linux}", state(linux)
    first = found(f"git:{url}@c6")
    sha = run(linux, "rev-parse", "c6")
    assert first.git == GitCommit(url, "c6", sha, f"v7.2-5-g{sha[:12]}")
    assert driver(first) == "commit 6\n"
    assert state(linux) == before
    (bare,) = (tmp_path / "cache" / "kernel" / "git").glob("linux-*.git")
    assert not git_has(bare, run(linux, "rev-parse", "main")), "only the ref was fetched"
    objects = {file.name for file in (bare / "objects").rglob("*") if file.is_file()}
    path = first.path
    del first
    run(linux, "branch", "--force", "c6", "c9")
    assert driver(later := found(f"git:{url}@c6")) == "commit 9\n"
    assert later.path == path
    assert objects <= {file.name for file in (bare / "objects").rglob("*") if file.is_file()}
    run(linux, "branch", "--force", "c6", "c2")
    assert driver(found(f"git:{url}@c6")) == "commit 2\n", "a branch may be rewound"


def git_has(bare: Path, sha: str) -> bool:
    return (
        subprocess.run(["git", "--git-dir", bare, "cat-file", "-e", sha], check=False, capture_output=True).returncode
        == 0
    )


def test_a_tag_comes_before_a_branch_and_a_full_name_before_both(linux: Path) -> None:
    run(linux, "tag", "c3", "c8")
    assert driver(found(f"git:{linux}@c3")) == "commit 8\n"
    assert driver(found(f"git:{linux}@refs/heads/c3")) == "commit 3\n"
    assert driver(found(f"git:{linux}@v7.2")) == "commit 1\n"


def test_a_fetched_commit_needs_no_network(linux: Path, tmp_path: Path) -> None:
    sha = run(linux, "rev-parse", "c11")
    found(f"git:file://{linux}@{sha}")
    linux.rename(tmp_path / "gone")
    assert driver(found(f"git:file://{linux}@{sha}")) == "commit 11\n"
    with pytest.raises(UsageError, match="is no git repository"):
        found(f"git:file://{linux}@c11")


def test_a_killed_fetch_is_no_obstacle(linux: Path, tmp_path: Path) -> None:
    found(f"git:{linux}@c6")
    (bare,) = (tmp_path / "cache" / "kernel" / "git").glob("linux-*.git")
    (ref,) = (bare / "refs" / "harness").iterdir()
    for lock in (ref.with_name(f"{ref.name}.lock"), bare / "packed-refs.lock", bare / "shallow.lock"):
        lock.touch()
    (bare / "objects" / "pack" / "tmp_pack_x").write_bytes(b"half")
    run(linux, "branch", "--force", "c6", "c9")
    assert driver(found(f"git:{linux}@c6")) == "commit 9\n"
    assert not list(bare.rglob("tmp_pack*"))


def test_a_host_that_cannot_be_reached_is_the_hosts_fault(linux: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"git://127.0.0.1:{free.getsockname()[1]}/linux.git"
        with pytest.raises(HarnessError, match=f"{url} cannot be reached") as raised:
            found(f"git:{url}@main")
    assert not isinstance(raised.value, UsageError)
    assert raised.value.hint
    assert "KERNEL=PATH@REF" in raised.value.hint


def test_a_server_that_does_not_answer_has_a_deadline(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone, "ANSWER_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent_server:
        url = f"git://127.0.0.1:{silent_server.getsockname()[1]}/linux.git"
        with pytest.raises(HarnessError, match=rf"KERNEL=git:{url}@main: {url}: git took over 1 s"):
            found(f"git:{url}@main")


@pytest.mark.parametrize(
    ("printed", "kind", "says"),
    [
        (["fatal: unable to access 'u': Could not resolve host: kernel.example"], HarnessError, "cannot be reached"),
        (["fatal: unable to access 'u': The requested URL returned error: 502"], HarnessError, "cannot be reached"),
        (["fatal: could not read Username for 'u': terminal prompts disabled"], HarnessError, "wants a login"),
        (["git@h: Permission denied (publickey).", "fatal: Could not read from remote repository."],
         HarnessError, "wants a login"),
        (["remote: Repository not found.", "fatal: repository 'u' not found"], UsageError, "is no git repository"),
        (["fatal: remote error: upload-pack: not our ref 0123"], UsageError, "has no such commit"),
        (["fatal: write error: No space left on device"], HarnessError, "no space left"),
        (["fatal: \x1b[31mpack is bad"], HarnessError, r"git failed: fatal: \\x1b\[31mpack is bad"),
    ],
)  # fmt: skip
def test_what_git_prints_is_explained(
    linux: Path, tmp_path: Path, printed: Sequence[str], kind: type[HarnessError], says: str
) -> None:
    error = clone._Remote("u", "KERNEL=git:u@main", tmp_path, STEP)._failure(printed)
    assert type(error) is kind
    with pytest.raises(kind, match=says):
        raise error


def test_a_host_without_git_is_a_missing_prerequisite(linux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_sh = cache_path("bin", "sh")
    for name in ("sh", "setpriv"):
        only_sh.with_name(name).symlink_to(Path("/usr/bin") / name)
    monkeypatch.setenv("PATH", str(only_sh.parent))
    monkeypatch.setattr("harness.host.packages._SBIN", "")
    with pytest.raises(MissingPrerequisite, match="git is not installed"):
        found(f"{linux}@main")
    with pytest.raises(MissingPrerequisite, match="git is not installed"):
        found(f"git:{linux}@main")


@pytest.mark.parametrize("form", ["{linux}@moving", "git:file://{linux}@moving"])
def test_a_pinned_ref_names_the_same_commit_when_it_has_moved(linux: Path, form: str) -> None:
    run(linux, "branch", "moving", "c6")
    sha = run(linux, "rev-parse", "c6")
    kernel = form.format(linux=linux)
    pinned = commit.pinned(kernel, silent)
    assert pinned == f"{kernel}={sha}"
    assert commit.pinned(pinned, silent) == pinned
    run(linux, "branch", "--force", "moving", "c9")
    source = found(pinned)
    assert driver(source) == "commit 6\n"
    assert source.git
    assert (source.git.ref, source.git.commit) == ("moving", sha)
    assert source.origin == f"{kernel} at {sha[:12]}"
    key = source.key
    del source
    assert found(kernel).key == key, "one checkout for all commits of the ref"


@pytest.mark.parametrize("kernel", [None, "", "debian:7.3", "/", "/nowhere@main"])
def test_what_is_no_commit_is_not_pinned(kernel: str | None) -> None:
    assert commit.pinned(kernel, silent) == kernel


def test_a_pinned_commit_that_a_server_no_longer_has_is_an_error(linux: Path) -> None:
    with pytest.raises(UsageError, match="has no such commit"):
        found(f"git:file://{linux}@main={40 * '0'}")
    with pytest.raises(UsageError, match=r"has no commit '0{40}'"):
        found(f"{linux}@main={40 * '0'}")


def test_a_patched_tree_follows_its_ref(linux: Path, tmp_path: Path) -> None:
    patch = tmp_path / "readme.patch"
    patch.write_text("--- a/run.sh\n+++ b/run.sh\n@@ -1 +1,2 @@\n #!/bin/sh\n+true\n")
    series, workspace = Series.load(str(patch), silent), tmp_path / "workspace"
    seen = []
    for number in (3, 8):
        run(linux, "branch", "--force", "moving", f"c{number}")
        base = found(f"{linux}@moving")
        before = dates(base.path)
        changed, _ = patched_tree.prepare(base, "release", series, workspace, STEP)
        assert dates(base.path) == before
        assert (changed.path / "run.sh").read_text() == "#!/bin/sh\ntrue\n"
        assert changed.git == base.git
        seen.append(driver(changed))
        del base, changed
    assert seen == ["commit 3\n", "commit 8\n"]


def test_a_bisection_reads_the_same_names(linux: Path) -> None:
    local, remote = commit.parse(f"{linux}@main"), commit.parse(f"git:file://{linux}@main")
    assert local
    assert remote
    assert commit.repository(local, silent) == linux
    assert git_has(commit.repository(remote, silent), run(linux, "rev-parse", "c7"))


def test_a_users_tree_has_its_commit_in_the_record(linux: Path) -> None:
    sha = run(linux, "rev-parse", "HEAD")
    described = f"v7.2-11-g{sha[:12]}"
    (linux / DRIVER).touch()  # the index has another date now, which git would refresh
    before = state(linux)
    assert found(str(linux)).git == GitCommit(str(linux), "main", sha, described)
    (linux / "not-added.c").touch()
    assert found(str(linux)).git == GitCommit(str(linux), "main", sha, described)
    (linux / "not-added.c").unlink()
    (linux / DRIVER).write_text("an edit\n")
    source = found(str(linux))
    assert source.git == GitCommit(str(linux), "main", sha, f"{described}-dirty", dirty=True)
    assert source.origin == f"{linux} at {sha[:12]}"
    (linux / DRIVER).write_text("commit 12\n")
    after = state(linux)
    for name in before.keys() | after.keys():
        if Path(name).name not in ("vfio_main.c", "linux"):
            assert after[name] == before[name]


def test_a_tree_without_tags_or_branch_has_none(linux: Path) -> None:
    run(linux, "tag", "-d", "v7.2")
    run(linux, "checkout", "--quiet", "--detach", "c4")
    assert git.checked_out(linux) == GitCommit(str(linux), "", run(linux, "rev-parse", "c4"))
    assert git.checked_out(linux / "drivers") is None
    (linux / ".git" / "HEAD").write_text("garbage\n")
    assert git.checked_out(linux) is None
