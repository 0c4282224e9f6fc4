# SPDX-License-Identifier: GPL-2.0-only
"""Resources are closed in order and once, even if a close fails."""

from collections.abc import Iterator

import pytest

from harness.guest import resource
from harness.guest.resource import Resource, close_all


class Recorded(Resource):
    """Records its name when it is closed."""

    def __init__(self, closed: list[str], name: str, error: Exception | None = None) -> None:
        super().__init__()

        def undo() -> None:
            closed.append(name)
            if error:
                raise error

        self._undo.callback(undo)

    def adopt(self, part: "Recorded") -> None:
        self._own(part)


@pytest.fixture(autouse=True)
def _nothing_open() -> Iterator[None]:
    resource._live.clear()
    yield
    resource._live.clear()


def test_resources_are_closed_newest_first_and_once() -> None:
    closed: list[str] = []
    first, _ = Recorded(closed, "first"), Recorded(closed, "second")
    assert close_all() == []
    first.close()
    assert closed == ["second", "first"]
    assert close_all() == []


def test_a_failing_close_is_reported_and_does_not_stop_the_rest() -> None:
    closed: list[str] = []
    Recorded(closed, "first")
    Recorded(closed, "second", OSError(16, "Device or resource busy", "IOMMU_DESTROY"))
    (failure,) = close_all()
    assert "IOMMU_DESTROY" in failure
    assert closed == ["second", "first"]


def test_a_kept_resource_keeps_its_parts() -> None:
    closed: list[str] = []
    kept = Recorded(closed, "kept")
    kept.adopt(Recorded(closed, "its part"))
    Recorded(closed, "other")
    close_all(keep=[kept])
    assert closed == ["other"]
    close_all()
    assert closed == ["other", "its part", "kept"]


def test_close_all_closes_what_a_failed_constructor_acquired() -> None:
    closed: list[str] = []

    class Half(Recorded):
        def __init__(self) -> None:
            super().__init__(closed, "half")
            raise OSError(22, "Invalid argument")

    with pytest.raises(OSError, match="Invalid"):
        Half()
    close_all()
    assert closed == ["half"]
