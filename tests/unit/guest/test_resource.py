# SPDX-License-Identifier: GPL-2.0-only
"""All that is open is given back: in order, once, whatever fails on the way."""

from collections.abc import Iterator

import pytest

from harness.guest import resource
from harness.guest.resource import Resource, close_all


class Noted(Resource):
    """Notes its name when it is closed."""

    def __init__(self, notes: list[str], name: str, error: Exception | None = None) -> None:
        super().__init__()

        def undo() -> None:
            notes.append(name)
            if error:
                raise error

        self._undo.callback(undo)

    def adopt(self, part: "Noted") -> None:
        self._own(part)


@pytest.fixture(autouse=True)
def _nothing_open() -> Iterator[None]:
    resource._live.clear()
    yield
    resource._live.clear()


def test_newest_first_and_only_once() -> None:
    notes: list[str] = []
    first, _ = Noted(notes, "first"), Noted(notes, "second")
    assert close_all() == []
    first.close()
    assert notes == ["second", "first"]
    assert close_all() == []


def test_a_failing_one_is_reported_and_does_not_stop_the_rest() -> None:
    notes: list[str] = []
    Noted(notes, "first")
    Noted(notes, "second", OSError(16, "Device or resource busy", "IOMMU_DESTROY"))
    (failure,) = close_all()
    assert "IOMMU_DESTROY" in failure
    assert notes == ["second", "first"]


def test_what_is_kept_stays_with_its_parts() -> None:
    notes: list[str] = []
    kept = Noted(notes, "kept")
    kept.adopt(Noted(notes, "its part"))
    Noted(notes, "other")
    close_all(keep=[kept])
    assert notes == ["other"]
    close_all()
    assert notes == ["other", "its part", "kept"]


def test_a_constructor_that_fails_half_way_leaves_its_half_to_close_all() -> None:
    notes: list[str] = []

    class Half(Noted):
        def __init__(self) -> None:
            super().__init__(notes, "half")
            raise OSError(22, "Invalid argument")

    with pytest.raises(OSError, match="Invalid"):
        Half()
    close_all()
    assert notes == ["half"]
