# SPDX-License-Identifier: GPL-2.0-only
"""The plan of a night: its cells, and what each mistake in it says."""

from pathlib import Path

import pytest

from harness.config import architectures, known_machines, load_machine
from harness.errors import UsageError
from harness.nightly.plan import DEFAULT_PLAN, expand, load_plan, seconds_of
from harness.nightly.record import Cell

PLAN = """\
budget: 1h30m
trees:
  linus:
    kernel: ~/linux
  fixes:
    kernel: debian:7.3
    series: fixes.mbox
qemus:
  next: /opt/qemu
include:
  - owner: Ann <ann@example.org>
    trees: [linus, fixes]
    flavours: [release, debug]
  - owner: Bob <bob@example.org>
    trees: [linus]
    machines: [big-bar]
    suites: [stress]
    qemus: [next]
    focus: true
exclude:
  - why: it takes too long
    trees: [fixes]
    flavours: [debug]
"""


def cases_of(cell: Cell) -> list[str]:
    return [f"test_a::test_{cell.suite}"]


def plan_file(tmp_path: Path, old: str = "", new: str = "") -> Path:
    """Write the plan with one change."""
    path = tmp_path / "plan.yaml"
    assert old in PLAN
    path.write_text(PLAN.replace(old, new, 1) if old else PLAN)
    return path


def test_each_line_gives_every_combination_of_its_lists(tmp_path: Path) -> None:
    path = plan_file(tmp_path)
    plan = load_plan(path)
    cells = expand(plan, path, cases_of, {"linus-debug-intel-iommu-default": 12.5})
    assert [cell.id for cell in cells] == [
        "linus-release-intel-iommu-default",
        "linus-debug-intel-iommu-default",
        "fixes-release-intel-iommu-default",
        "linus-release-big-bar-stress-next",
    ]
    assert plan.budget_s == 5400
    assert cells[1].expected_s == 12.5
    assert (cells[2].kernel, cells[2].series, cells[2].owner) == ("debian:7.3", "fixes.mbox", "Ann <ann@example.org>")
    assert (cells[3].qemu, cells[3].focus, cells[3].cases) == ("/opt/qemu", True, ["test_a::test_stress"])


def test_the_shipped_plan_can_be_read() -> None:
    cells = expand(load_plan(), DEFAULT_PLAN, cases_of, {})
    assert len({cell.id for cell in cells}) == len(cells) == 39


def test_each_platform_is_a_line_of_the_shipped_plan() -> None:
    plan = load_plan()
    _, _, combinations = zip(*plan.combinations(), strict=True)
    _, _, names, planned_suites, qemus = map(set, zip(*combinations, strict=True))
    machines = [load_machine(name) for name in names]
    assert {machine.arch for machine in machines} == {*architectures()}
    assert {"debian:10.0", "debian:11.1"} <= {plan.qemus.get(name) for name in qemus}
    assert {each.name for each in map(load_machine, known_machines()) if each.min_qemu or each.peer} <= names
    assert {"kselftest-vfio", "kselftest-iommu", "rdma-core", "kvm-test"} <= planned_suites


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "[linus, fixes]",
            "[linus, fixed]",
            r"plan.yaml:12: include\[0\].trees\[1\]: no tree 'fixed'; did you mean 'fi",
        ),
        ("[stress]", "[stres]", r"plan.yaml:17: include\[1\].suites\[0\]: no suite 'stres'; did you mean 'stress'"),
        ("[next]", "[nxt]", r"plan.yaml:18: include\[1\].qemus\[0\]: no QEMU 'nxt'; did you mean 'next'"),
        (
            "[big-bar]",
            "[big-baar]",
            r"plan.yaml:16: include\[1\].machines\[0\]: unknown machine 'big-baar'; did you mean",
        ),
        ("[release, debug]", "[vanilla]", r"plan.yaml:13: include\[0\].flavours\[0\]: input should be 'release', 'deb"),
        ("1h30m", "soon", r"plan.yaml:1: budget: 'soon' is not a duration such as 90m, 6h or 1h30m"),
        ("  next: /", "  default: /", r"plan.yaml:9: qemus.default: this name is taken"),
        ("owner: Ann", "ownr: Ann", r"plan.yaml:11: include\[0\].ownr: unknown key; did you mean 'owner'"),
        (
            "[fixes]\n",
            "[linus, fixes]\n    machines: [big-bar]\n",
            r"plan.yaml:21: exclude\[0\]: no cell of include matc",
        ),
        ("    suites: [stress]\n    qemus: [next]\n", "", "given twice"),
        (
            "flavours: [rel",
            "suites: [kvm-test]\n    flavours: [rel",
            r"include\[0\].trees\[1\]: kvm-test takes no series",
        ),
        (
            "    machines: [big-bar]\n    suites: [stress]",
            "    machines: [arm64-smmuv3]\n    suites: [kvm-test]",
            r"include\[1\].machines\[0\]: kvm-test runs machines of x86_64 only",
        ),
        ("suites: [stress]", "suites: [kvm-test]", r"include\[1\].focus: kvm-test has its own cases"),
    ],
)
def test_a_mistake_names_the_line_the_key_and_the_fix(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = plan_file(tmp_path, old, new)
    if complaint == "given twice":
        path.write_text(path.read_text().replace("[big-bar]", "[intel-iommu]"))
        complaint = r"plan.yaml:14: include\[1\]: the cell linus-release-intel-iommu-default is given twice, by inc"
    with pytest.raises(UsageError, match=complaint):
        load_plan(path)


def test_only_the_mistake_itself_is_reported(tmp_path: Path) -> None:
    """Not that a list has no item, because pydantic does not count a wrong one."""
    path = plan_file(tmp_path, "[release, debug]", "[vanilla]")
    with pytest.raises(UsageError) as caught:
        load_plan(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("trees: {}\ninclude: []\n", ["trees: must not be empty", "include: must not be empty"]),
        ("trees: [a]\ninclude: all\n", ['trees: input should be a mapping, not ["a"]', 'a list, not "all"']),
    ],
)
def test_a_wrong_kind_of_value_is_named_in_the_words_of_yaml(tmp_path: Path, text: str, complaints: list[str]) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_plan(path)
    for line, complaint in zip(str(caught.value).splitlines(), complaints, strict=True):
        assert complaint in line


def test_a_plan_without_a_cell_is_refused(tmp_path: Path) -> None:
    path = plan_file(
        tmp_path, "  - why: it takes too long\n    trees: [fixes]\n    flavours: [debug]\n", "  - why: all\n"
    )
    with pytest.raises(UsageError, match="exclude removes every cell"):
        expand(load_plan(path), path, cases_of, {})


def test_a_cell_without_a_case_names_its_line(tmp_path: Path) -> None:
    path = plan_file(tmp_path)

    def none(cell: Cell) -> list[str]:
        raise UsageError("these cases are for aer", hint="choose with --machine")

    with pytest.raises(UsageError, match=r"include\[0\]: linus-release-intel-iommu-default: these cases are for aer"):
        expand(load_plan(path), path, none, {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("6h", 21600), ("1h30m", 5400), ("0.5s", 0.5), ("2d", 172800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "6", "h", "6 h", "0m", "6h later", "-1h"])
def test_a_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds_of(text)
