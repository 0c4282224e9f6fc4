# SPDX-License-Identifier: GPL-2.0-only
"""Shards: each case is in exactly one, whatever the durations, and none has much more to do than another."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.run.shard import last_durations, parse_shard, shard

IDS = [f"test_a::test_{number}" for number in range(20)]


@given(
    st.lists(st.sampled_from(IDS), unique=True, min_size=5),
    st.integers(1, 5),
    st.dictionaries(st.sampled_from(IDS), st.floats(0, 100)),
)
def test_each_case_is_in_one_shard(ids: list[str], count: int, durations: dict[str, float]) -> None:
    parts = [shard(ids, f"{index}/{count}", durations) for index in range(1, count + 1)]
    assert sorted(number for part in parts for number in part) == [*range(len(ids))]
    assert all(part == sorted(part) for part in parts)


def test_equal_input_gives_equal_shards() -> None:
    durations = {IDS[3]: 5.0, IDS[7]: 5.0}
    assert shard(IDS, "2/3", durations) == shard(list(IDS), "2/3", dict(reversed(durations.items())))


def test_a_case_keeps_its_shard_when_the_order_of_collection_changes() -> None:
    names = {IDS[number] for number in shard(IDS, "1/3", {})}
    assert {[*reversed(IDS)][number] for number in shard([*reversed(IDS)], "1/3", {})} == names


def test_shards_are_balanced_by_durations() -> None:
    durations = dict.fromkeys(IDS, 1.0) | {IDS[0]: 10.0, IDS[19]: 8.0}
    loads = [sum(durations[IDS[number]] for number in shard(IDS, f"{index}/2", durations)) for index in (1, 2)]
    assert loads == [18.0, 18.0]


def test_a_case_of_unknown_duration_counts_as_the_median() -> None:
    assert len(shard(IDS[:4], "1/2", {IDS[0]: 30.0, IDS[1]: 10.0, IDS[2]: 10.0})) == 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "-1/2", "1/0", "1/2/3", ""])
def test_a_malformed_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a part such as 2/3"):
        parse_shard(text)


def test_a_shard_without_a_case_is_refused() -> None:
    with pytest.raises(UsageError, match="the run has 2 cases, and none is in this shard"):
        shard(IDS[:2], "3/3", {})


def test_without_an_earlier_run_no_duration_is_known(tmp_path: Path) -> None:
    assert last_durations(tmp_path) == {}
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "report.json").write_text("{")
    assert last_durations(tmp_path) == {}
