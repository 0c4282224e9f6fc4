#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Run one module of rdma-core's own tests in the guest, and report its tests as KTAP.

Usage: run_module.py DEVICE GID MODULE [TEST=WHY...], e.g. ``rxe0 1 test_mr``. GID is the index of the address to use.
The tests that are named are skipped. The working directory gets a copy of what the module needs.
"""

import gzip
import importlib
import os
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path

SHIPPED = Path("/usr/share/doc/rdma-core/tests")
"""Debian's python3-pyverbs has the tests here, the larger files compressed."""


class Report(unittest.TestResult):
    """Prints a line of KTAP for each test, after what it says of a failure."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
        self._outcome = ("ok", "")

    def startTest(self, test: unittest.TestCase) -> None:
        """Expect success."""
        super().startTest(test)
        self._outcome = ("ok", "")

    def stopTest(self, test: unittest.TestCase) -> None:
        """Print the test's line."""
        super().stopTest(test)
        self._count += 1
        word, skipped = self._outcome
        print(f"{word} {self._count} {name_of(test)}{f' # SKIP {skipped}' if skipped else ''}", flush=True)

    def _bad(self, kind: str, detail: str) -> None:
        self._outcome = ("not ok", "")
        print(*(f"# {line}" for line in [kind, *detail.splitlines()]), sep="\n", flush=True)

    def addError(self, test, err) -> None:  # type: ignore[no-untyped-def]
        """Note an exception: mostly a call that the kernel refused."""
        super().addError(test, err)
        self._bad("error", self.errors[-1][1])

    def addFailure(self, test, err) -> None:  # type: ignore[no-untyped-def]
        """Note an assertion that failed."""
        super().addFailure(test, err)
        self._bad("failure", self.failures[-1][1])

    def addSubTest(self, test, subtest, err) -> None:  # type: ignore[no-untyped-def]
        """Note a part that failed."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._bad("failure", str(err[1]))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        """Note why the test was skipped."""
        super().addSkip(test, reason)
        self._outcome = ("ok", " ".join(reason.split()) or "no reason")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        """Note a test that should have failed."""
        super().addUnexpectedSuccess(test)
        self._bad("failure", "it passed, and should have failed")


def copy_tests(target: Path) -> None:
    """Copy the tests into ``target``, unpacked, without what makes the package import each of its modules."""
    target.mkdir()
    for path in SHIPPED.iterdir():
        name = path.name.removesuffix(".gz")
        content = b"" if name == "__init__.py" else path.read_bytes()
        (target / name).write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield the tests of a suite."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from flat(each)
        else:
            yield each


def name_of(test: unittest.TestCase) -> str:
    """Return the name of a test without package and module."""
    return test.id().partition(".")[2].partition(".")[2]


def skip(tests: list[unittest.TestCase], left_out: dict[str, str]) -> None:
    """Let unittest skip these tests. Raises KeyError for a test that does not exist."""
    by_name = {name_of(test): test for test in tests}
    for name, why in left_out.items():
        test, method = by_name[name], name.rpartition(".")[2]
        setattr(test, method, unittest.skip(why)(getattr(test, method)))


def main(device: str, gid: str, module: str, *left_out: str) -> int:
    """Run the module; return 0 if all tests passed or were skipped. ``left_out``: as in the usage."""
    tests = Path.cwd() / "tests"
    copy_tests(tests)
    sys.path[:0] = [str(tests.parent), str(tests)]
    sys.argv[1:] = ["--dev", device, "--gid", gid]
    importlib.import_module("args_parser").parser.parse_args()
    suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(f"tests.{module}"))
    cases = [*flat(suite)]
    skip(cases, dict(each.split("=", 1) for each in left_out))
    print(f"TAP version 13\n1..{len(cases)}", flush=True)
    report = Report()
    unittest.TestSuite(cases).run(report)
    return 0 if report.wasSuccessful() else 1


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    # Without an interpreter's usual end: pyverbs frees what a test has left behind in the wrong order, and crashes.
    os._exit(code)
