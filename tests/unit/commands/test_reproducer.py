# SPDX-License-Identifier: GPL-2.0-only
"""``vfio-harness reproducer``: from a run's directory to a C file, and how wrong arguments are refused."""

import tarfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from recordings import NOT_UNREVOKED, call, exporter, write
from run_records import KERNEL, run_record

from harness import paths
from harness.commands.reproducer import reproducer
from harness.errors import UsageError
from harness.progress import Emit
from harness.report.record import to_json
from harness.reproducer.outcome import Outcome
from harness.reproducer.runtime import choose, split
from harness.run.options import Options
from harness.verdict import BuildRecord, CaseRecord, GitRecord, Verdict

CASE = "test_lifecycle::test_waking_up_unrevokes[iommufd+nvme]"
OTHER = "test_lifecycle::test_it_passes"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a case that failed, whose recording is there, and one that passed."""
    directory = tmp_path / "run"
    (directory / "machine-1").mkdir(parents=True)
    write(NOT_UNREVOKED, directory / "case.recording.json")
    (directory / "machine-1" / "command").write_text("qemu-system-x86_64\n")
    (directory / "kernel.config").write_text("CONFIG_VFIO=y\n")
    cases = [
        CaseRecord(
            id=CASE,
            area="lifecycle",
            title="A wake-up un-revokes.",
            verdict=Verdict.KNOWN,
            reason="broken: a buffer can be mapped again",
            known_issue="revoked-after-wakeup",
            duration_s=1.0,
            ran_in="machine-1",
            recording="case.recording.json",
        ),
        CaseRecord(id=OTHER, area="lifecycle", title="It passes.", verdict=Verdict.PASS, duration_s=1.0),
    ]
    record = run_record(
        *cases,
        run_id="run",
        kernel=KERNEL.model_copy(
            update={
                "build": BuildRecord(architecture="x86_64", config="kernel.config"),
                "git": GitRecord(url="/linux", commit="c" * 40, describe="v7.2.12"),
            }
        ),
    )
    (directory / "report.json").write_text(to_json(record))
    return directory


def invoke(*arguments: str | Path) -> list[str]:
    """Run the command. Returns what it printed; raises its error."""
    done = CliRunner().invoke(reproducer, [str(each) for each in arguments], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output.split()


def test_make_writes_a_c_file(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.c"
    assert invoke("make", run, CASE, "-o", target) == [str(target)]
    text = target.read_text()
    assert '"revoked-after-wakeup"' in text
    assert "must_succeed(import(" in text


def test_a_pattern_chooses_the_case(run: Path, tmp_path: Path) -> None:
    invoke("make", run / "report.json", "*waking_up*", "-o", tmp_path / "x.c")
    assert (tmp_path / "x.c").is_file()


def test_the_tarball_has_what_repeats_it(run: Path, tmp_path: Path) -> None:
    _, packed = invoke("make", run, CASE, "-o", tmp_path / "x.c", "--tar")
    with tarfile.open(packed) as tar:
        files = {Path(each.name).name: tar.extractfile(each) for each in tar}
        assert set(files) == {"revoked-after-wakeup.c", "README", "kernel.config", "qemu-command", "commit"}
        assert (config := files["kernel.config"]) is not None
        assert config.read() == b"CONFIG_VFIO=y\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((CASE + "x",), "0 cases are"),
        (("*",), "2 cases are"),
        ((OTHER,), "it_passes has no recording: it is PASS"),
        ((CASE, "-o", "/nowhere/x.c"), "/nowhere/x.c: No such file or directory"),
    ],
)
def test_wrong_arguments_are_refused(run: Path, arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        invoke("make", run, *arguments)


def test_a_case_that_no_program_can_repeat(run: Path, tmp_path: Path) -> None:
    write([*exporter(), call("races", "run", [])], run / "case.recording.json")
    with pytest.raises(UsageError, match=r"no C program can repeat races\.run"):
        invoke("make", run, CASE, "-o", tmp_path / "x.c")
    assert not (tmp_path / "x.c").exists()


def test_run_names_the_bugs_that_have_a_reproducer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_BUGS", str(tmp_path))
    with pytest.raises(UsageError, match=r"no-such-bug: no such C file, and no bug with a reproducer"):
        invoke("run", "no-such-bug")


@pytest.mark.parametrize(
    ("arguments", "booted"),
    [
        (["iova-leak-on-sg-failure"], ("intel-iommu", "debug")),
        (["hot-reset-refused-revokes"], ("multifunction", "release")),
        (["iova-leak-on-sg-failure", "--machine", "switch", "--flavour", "release"], ("switch", "release")),
        (["{file}"], ("intel-iommu", "release")),
    ],
)
def test_run_boots_what_shows_the_bug(
    arguments: list[str], booted: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reproducer on a kernel that cannot show its bug would pass."""
    file = tmp_path / "mine.c"
    file.write_text("")
    seen: list[Options] = []

    def run_alone(source: Path, options: Options, emit: Emit) -> Outcome:
        seen.append(options)
        return Outcome(Verdict.PASS, "", ())

    monkeypatch.setattr("harness.commands.reproducer.run_alone", run_alone)
    CliRunner().invoke(reproducer, ["run", *(each.format(file=file) for each in arguments)])
    assert [(each.machine, each.flavour) for each in seen] == [booted]


def test_run_needs_an_argument() -> None:
    with pytest.raises(click.MissingParameter):
        invoke("run")


def test_each_reproducer_is_of_a_bug() -> None:
    for source in paths.bugs_dir().glob("*.c"):
        assert source.with_suffix(".yaml").is_file(), source


@pytest.mark.parametrize("source", sorted(paths.bugs_dir().glob("*.c")), ids=lambda path: path.stem)
def test_each_reproducer_has_the_present_runtime(source: Path) -> None:
    """If not: run the case that its head names, `vfio-harness reproducer make`, and `reproducer check ID`."""
    text = source.read_text()
    before, after = split(choose(text))
    assert before in text
    assert after in text
