# SPDX-License-Identifier: GPL-2.0-only
"""The medians of a bench, and the file that it writes."""

import json
from pathlib import Path

from harness.commands.bench import Result


def test_medians_not_means_and_the_file_has_the_agreed_keys(tmp_path: Path) -> None:
    steps = [{"ready": 1.5, "init starts": 1.0}, {"ready": 1.7, "init starts": 1.2}, {"ready": 90.0}]
    result = Result(floor=[1.0, 1.0, 9.0], ready=[1.5, 1.7, 90.0], steps=steps, load=0.25)
    result.write(tmp_path / "results" / "bench.json")
    record = json.loads((tmp_path / "results" / "bench.json").read_text())
    assert (record["boot_ready_s"], record["floor_s"], record["ratio"]) == (1.7, 1.0, 1.7)
    assert record["rounds"]["boot_ready_s"] == [1.5, 1.7, 90.0]
    assert record["steps_s"] == {"init starts": 1.1, "ready": 1.7}
    assert "1.70, limit 2.0" in str(result)
    assert "  1.10 s   1.10  init starts" in str(result)
