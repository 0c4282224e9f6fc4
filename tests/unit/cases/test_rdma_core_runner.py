# SPDX-License-Identifier: GPL-2.0-only
"""The program that runs a module of rdma-core's tests in the guest, here on tests that are made up."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cases import ktap, suites
from harness.cases.rdma_core import RUNNER, rdma_core
from harness.config import matches
from harness.image.recipe import load as load_recipe

ARGS_PARSER = """\
import sys

class Parser:
    def parse_args(self):
        self.device = sys.argv[1:]

parser = Parser()
"""
BASE = "from args_parser import parser\n"
TESTS = """\
import unittest
from tests.base import parser
from tests.test_flow import FLOW

class MrTest(unittest.TestCase):
    def test_device(self):
        self.assertEqual(parser.device, ["--dev", "rxe0", "--gid", "1"])

    def test_refused(self):
        raise OSError(22, "Failed to\\nok 9 register")

    def test_skipped(self):
        self.skipTest("rxe has\\nno DM")

    def test_wrong(self):
        self.assertEqual(FLOW, 2)

    def test_part(self):
        for number in range(2):
            with self.subTest(number=number):
                self.assertEqual(number, 0)
"""


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """The directory in which Debian ships the tests."""
    directory = tmp_path / "shipped"
    directory.mkdir()
    (directory / "__init__.py").write_text("from tests import test_dies\n")  # as theirs imports every module
    (directory / "args_parser.py").write_text(ARGS_PARSER)
    (directory / "base.py.gz").write_bytes(gzip.compress(BASE.encode()))
    (directory / "test_mr.py.gz").write_bytes(gzip.compress(TESTS.encode()))
    (directory / "test_flow.py").write_text("FLOW = 1\n")
    (directory / "test_dies.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    return directory


def run(shipped: Path, *arguments: str) -> tuple[int, str]:
    """Run a module as the guest does: in an empty directory."""
    script = RUNNER.read_text().replace("/usr/share/doc/rdma-core/tests", str(shipped))
    program = shipped.parent / "program"
    program.write_text(script)
    where = shipped.parent / "empty"
    where.mkdir()
    ran = subprocess.run(
        [sys.executable, program, "rxe0", "1", *arguments], cwd=where, text=True, capture_output=True, check=False
    )
    return ran.returncode, ran.stdout


def test_each_test_has_its_line(shipped: Path) -> None:
    status, output = run(shipped, "test_mr")
    report = ktap.read(output)
    assert status == 1
    assert report.planned == len(report.results) == 5
    assert report.named("failed") == ["MrTest.test_part", "MrTest.test_refused", "MrTest.test_wrong"]
    assert report.named("passed") == ["MrTest.test_device"]
    assert [result.why for result in report.results if result.outcome == "skipped"] == ["rxe has no DM"]
    assert "# OSError: [Errno 22] Failed to" in output


def test_a_module_that_dies_gives_no_verdict(shipped: Path) -> None:
    status, output = run(shipped, "test_dies")
    assert status == -11
    assert not ktap.read(output).results


def test_each_module_is_a_case_of_the_suite_and_in_the_image() -> None:
    known = suites.suites()
    dropped = load_recipe().packages["python3-pyverbs"].drop
    for module in rdma_core().modules:
        assert suites.suite_of(f"test_rdma_core::test_module[{module}]", known) == "rdma-core"
        assert not matches(dropped, f"usr/share/doc/rdma-core/tests/{module}.py")


def test_a_test_that_is_left_out_is_skipped_with_its_reason(shipped: Path) -> None:
    _, output = run(shipped, "test_mr", "MrTest.test_refused=it is slow = racy")
    found = {each.name: (each.outcome, each.why) for each in ktap.read(output).results}
    assert found["MrTest.test_refused"] == ("skipped", "it is slow = racy")
    assert found["MrTest.test_wrong"][0] == "failed"


def test_a_left_out_test_that_does_not_exist_ends_the_run(shipped: Path) -> None:
    status, output = run(shipped, "test_mr", "MrTest.test_gone=why")
    assert status
    assert not output


def test_only_modules_that_run_leave_tests_out() -> None:
    found = rdma_core()
    assert set(found.left_out) <= set(found.modules)
    first, *others = found.arguments("test_cq")
    assert first == "test_cq"
    assert [other.partition("=")[0] for other in others] == [*found.left_out["test_cq"]]
    assert found.arguments("test_mr") == ["test_mr"]
