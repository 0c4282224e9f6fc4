# SPDX-License-Identifier: GPL-2.0-only
"""A run with counters writes the coverage map: on real counters of a small program, by the host's gcc and gcov."""

import subprocess
from pathlib import Path

import pytest
from made_nights import run_record

from harness.gcov.counters import Reached, save_case, save_notes
from harness.run.reach_map import add_run, load_map
from harness.verdict import CaseRecord, RunRecord, Verdict

FILE = "drivers/x.c"
SOURCE = """int one(void)
{
	return 1;
}

int two(void)
{
	return 2;
}

int main(int argc, char **argv)
{
	return argc > 1 ? one() : two();
}
"""


def record(*ids: str) -> RunRecord:
    return run_record(
        [CaseRecord(id=name, area="a", title="t", verdict=Verdict.PASS, reason="", duration_s=2.5) for name in ids],
        machine="m",
    )


def test_each_case_has_the_functions_that_it_reaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "drivers").mkdir()
    (tmp_path / FILE).write_text(SOURCE)
    subprocess.run(["gcc", "--coverage", "-c", FILE, "-o", "drivers/x.o"], cwd=tmp_path, check=True)
    subprocess.run(["gcc", "--coverage", "drivers/x.o", "-o", "program"], cwd=tmp_path, check=True)
    save_notes(tmp_path, [FILE], tmp_path, tmp_path)
    data = tmp_path / "drivers" / "x.gcda"
    for case, arguments in (("test_a::one", ["a"]), ("test_a::two", [])):
        data.unlink(missing_ok=True)
        subprocess.run([tmp_path / "program", *arguments], check=False)
        save_case(tmp_path, Reached(case, "m"), {str(data): data.read_bytes()}, [FILE])
    assert add_run(tmp_path, record("test_a::one", "test_a::two")) == 2
    found = load_map("7.2.6")
    assert found
    assert found.reaching([f"{FILE}:one"], "m") == {"test_a::one": 2.5}
    assert found.reaching([f"{FILE}:two"], "m") == {"test_a::two": 2.5}
    assert found.reaching([f"{FILE}:"], "m").keys() == {"test_a::one", "test_a::two"}
