# SPDX-License-Identifier: GPL-2.0-only
"""The cache of images: atomic, keyed by content, clean after a failure."""

import errno
import os
import time
from pathlib import Path

import pytest

from harness import image
from harness.config import DEFAULT_ARCH, Architecture, architecture
from harness.errors import HarnessError
from harness.host.held import is_held, last_change
from harness.image import build, recipe
from harness.image.keys import Keys
from harness.image.recipe import Recipe
from harness.progress import silent


class Builds:
    """A fake of the build, which needs the network: writes a small file in place of the image."""

    def __init__(self) -> None:
        self.count = 0
        self.error: OSError | None = None

    def assemble(
        self, recipe: Recipe, arch: Architecture, keys: Keys, scratch: Path, target: Path, *, tools: Path | None
    ) -> None:
        assert (tools is None) == arch.is_native
        self.count += 1
        (scratch / "half-made").write_text("")
        if self.error:
            raise self.error
        target.write_bytes(keys.host.public_line.encode())


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Builds:
    fake = Builds()
    monkeypatch.setenv("VFIO_HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(build, "assemble", fake.assemble)
    return fake


def test_second_time_comes_from_the_cache(builds: Builds) -> None:
    first = image.obtain(silent)
    assert image.obtain(silent) == first
    assert builds.count == 1
    assert first.root.read_text() == first.host_key
    assert first.ssh_key.stat().st_mode & 0o777 == 0o600


def test_an_image_in_use_is_not_pruned(builds: Builds) -> None:
    first = image.obtain(silent)
    os.utime(first.root.parent, (0, 0))
    again = image.obtain(silent)
    assert time.time() - last_change(first.root.parent) < 60
    assert is_held(first.root.parent)
    del first, again
    assert not is_held(image.cached()[0])


def test_another_architecture_is_built_with_the_programs_of_this_one(builds: Builds) -> None:
    foreign = "arm64" if architecture(DEFAULT_ARCH).is_native else DEFAULT_ARCH
    first = image.obtain(silent, foreign)
    assert builds.count == 2
    assert first.tools != first.root
    assert image.obtain(silent, foreign) == first
    assert builds.count == 2


def test_changed_input_builds_another_image(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    first = image.obtain(silent)
    monkeypatch.setattr(recipe, "content_key", lambda files: "another")
    assert image.obtain(silent).host_key != first.host_key
    assert first.root.exists()


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "no space left in /"), (errno.EACCES, "Permission denied")]
)
def test_failure_leaves_nothing_and_the_next_call_works(
    builds: Builds, tmp_path: Path, number: int, message: str
) -> None:
    builds.error = OSError(number, message)
    with pytest.raises(HarnessError, match=message):
        image.obtain(silent)
    assert {path.name for path in (tmp_path / "image").iterdir()} <= {"lock"}
    builds.error = None
    assert image.obtain(silent).root.exists()
