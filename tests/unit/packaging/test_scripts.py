# SPDX-License-Identifier: GPL-2.0-only
"""The shell scripts of the container and of the GitHub action, with stand-ins for ``docker`` and ``vfio-harness``."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.paths import TOP

SCRIPTS = TOP / "packaging"
DOCKER = """#!/bin/sh
printf '<%s>' "$@" >>"$LOG"; echo >>"$LOG"
case " $* " in
*' summary '*) echo 'the summary' ;;
*) [ -z "${RECORD:-}" ] || { mkdir -p "$RECORD"; ln -sfn "$RECORD" "$GITHUB_WORKSPACE/results/latest"
   echo '{}' >"$RECORD/report.json"; }
   exit "${CODE:-0}" ;;
esac
"""

Act = Callable[..., tuple[int, str, dict[str, str]]]


@pytest.fixture
def act(tmp_path: Path) -> Act:
    """Run action.sh; return its exit code, what docker was given, and the outputs with the step summary."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)

    def run(**variables: str) -> tuple[int, str, dict[str, str]]:
        inputs = {"KERNEL": "", "SERIES": "", "MACHINE": "intel-iommu", "SUITE": "default", "FLAVOUR": "release"}
        env = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "LOG": str(tmp_path / "log"),
            "GITHUB_WORKSPACE": str(tmp_path / "work"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
            "CACHE": str(tmp_path / "cache"),
            "IMAGE": "an-image",
            "ARGUMENTS": "",
            "COMMAND": "run",
            **inputs,
            **variables,
        }
        code = subprocess.run(["bash", SCRIPTS / "action.sh"], env=env, check=False, timeout=30).returncode
        outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
        return code, (tmp_path / "log").read_text(), outputs | {"summary": (tmp_path / "summary").read_text()}

    return run


def test_options_of_the_action_are_words_of_the_run(act: Act) -> None:
    code, log, _ = act(KERNEL="a tree", SERIES="x.mbox", ARGUMENTS="--qemu '/q m' --focus")
    assert code == 0
    assert (
        "<an-image><run><--machine><intel-iommu><--flavour><release><--suite><default>"
        "<--kernel><a tree><--series><x.mbox><--qemu></q m><--focus>"
    ) in log


def test_kvm_test_takes_no_suite(act: Act) -> None:
    code, log, _ = act(COMMAND="kvm-test")
    assert code == 0
    assert "<an-image><kvm-test><--machine><intel-iommu><--flavour><release>" in log
    assert "<--suite>" not in log


def test_no_argument_is_run_by_the_shell(act: Act, tmp_path: Path) -> None:
    text = f"$(touch {tmp_path}/ran) ; touch {tmp_path}/ran"
    _, log, _ = act(KERNEL=text, ARGUMENTS=text)
    assert f"<--kernel><{text}>" in log
    assert not (tmp_path / "ran").exists()


def test_without_inputs_there_are_no_empty_words(act: Act) -> None:
    assert "<>" not in act()[1]


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_code_of_the_run_is_that_of_the_step_and_the_summary_is_written(
    act: Act, tmp_path: Path, code: int
) -> None:
    record = tmp_path / "work" / "results" / "20261129-000000-x"
    got, _, outputs = act(CODE=str(code), RECORD=str(record))
    assert got == code
    assert outputs == {"exit-code": str(code), "results": str(record), "summary": "the summary\n"}


def test_a_run_that_ends_before_its_first_case_is_reported(act: Act) -> None:
    code, _, outputs = act(CODE="2")
    assert code == 2
    assert "results" not in outputs
    assert outputs["summary"].startswith("vfio-harness ended with exit code 2 before its first case")


@pytest.fixture
def container(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run the entry point of the container, whose guest image is in ``tmp_path``."""
    image = tmp_path / "built" / "image" / "0123"
    image.mkdir(parents=True)
    for name in ("root.erofs", "ssh_key", "host_key.pub"):
        (image / name).write_text(name)
    program = tmp_path / "bin" / "vfio-harness"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit 3\n')
    program.chmod(0o755)
    (tmp_path / "cache").mkdir()

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "VFIO_HARNESS_BUILT": str(tmp_path / "built"),
            "VFIO_HARNESS_CACHE": str(tmp_path / "cache"),
        }
        command = ["sh", SCRIPTS / "container-entrypoint.sh", *args]
        return subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=30)

    return run


def test_the_container_puts_its_guest_image_into_the_cache_once(
    container: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    first = container("run", "-k", "a or b")
    assert (first.returncode, first.stdout, first.stderr) == (3, "<run><-k><a or b>", "")
    copy = tmp_path / "cache" / "image" / "0123"
    assert {path.name for path in copy.iterdir()} == {"root.erofs", "ssh_key", "host_key.pub"}
    assert (copy.stat().st_mode & 0o777, (copy / "ssh_key").stat().st_mode & 0o777) == (0o700, 0o600)
    (copy / "root.erofs").write_text("in use")
    assert container("machines").returncode == 3
    assert (copy / "root.erofs").read_text() == "in use"
    assert [path.name for path in copy.parent.iterdir()] == ["0123"]
