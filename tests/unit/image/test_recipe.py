# SPDX-License-Identifier: GPL-2.0-only
"""The recipe: strict, complete, and every input of an image in its key."""

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.image import recipe

GOOD = """
suite: trixie
mirror: http://mirror.invalid/debian
keyring: /keyring.gpg
packages:
  tool: {why: a reason, keep: [usr/bin/tool], drop: [usr/bin/tool-*]}
  other: {why: a reason, keep: [usr/bin/other]}
"""


def _load(tmp_path: Path, text: str) -> recipe.Recipe:
    path = tmp_path / "rootfs.yaml"
    path.write_text(text)
    return recipe.load(path)


def test_patterns_of_all_packages_in_order(tmp_path: Path) -> None:
    loaded = _load(tmp_path, GOOD)
    assert loaded.keep == ["usr/bin/tool", "usr/bin/other"]
    assert loaded.drop == ["usr/bin/tool-*"]


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (("why: a reason, ", ""), "packages.tool.why"),
        (("suite: trixie", "suite: 13"), "suite"),
        (("suite: trixie", "suite: trixie\nsiute: x"), "siute"),
        (("mirror:", "\tmirror:"), "rootfs.yaml"),
    ],
)
def test_error_names_file_and_key(tmp_path: Path, edit: tuple[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        _load(tmp_path, GOOD.replace(*edit, 1))
    assert "rootfs.yaml" in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml"):
        recipe.load(tmp_path / "gone.yaml")


def test_shipped_recipe_gives_every_package_a_reason() -> None:
    shipped = recipe.load()
    assert {"python3", "dropbear-bin", "python3-pyverbs"} <= set(shipped.packages)
    assert all(package.why and package.keep for package in shipped.packages.values())


def test_inputs_are_recipe_overlay_init_and_code() -> None:
    names = {path.name for path in recipe.inputs()}
    assert {"rootfs.yaml", "zygote.py", "init.c", "agent.c", "recipe.py", "build.py"} <= names


class TestContentKey:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        for name in ("a", "b"):
            (tmp_path / name).write_text(name)
        return [tmp_path / "a", tmp_path / "b"]

    def test_order_does_not_matter(self, tmp_path: Path, files: list[Path]) -> None:
        assert recipe.content_key(files, tmp_path) == recipe.content_key(files[::-1], tmp_path)

    def test_path_of_the_checkout_does_not_matter(self, tmp_path: Path, files: list[Path]) -> None:
        before = recipe.content_key(files, tmp_path)
        moved = tmp_path / "elsewhere"
        moved.mkdir()
        assert recipe.content_key([path.rename(moved / path.name) for path in files], moved) == before

    @pytest.mark.parametrize("change", ["content", "name", "mode"])
    def test_any_change_changes_it(self, tmp_path: Path, files: list[Path], change: str) -> None:
        before = recipe.content_key(files, tmp_path)
        match change:
            case "content":
                files[0].write_text("c")
            case "name":
                files[0] = files[0].rename(tmp_path / "c")
            case "mode":
                files[0].chmod(0o755)
        assert recipe.content_key(files, tmp_path) != before

    def test_content_cannot_move_between_files(self, tmp_path: Path, files: list[Path]) -> None:
        files[0].write_text("ab")
        files[1].write_text("")
        before = recipe.content_key(files, tmp_path)
        files[0].write_text("a")
        files[1].write_text("b")
        assert recipe.content_key(files, tmp_path) != before

    def test_only_the_owner_x_of_the_mode_counts(self, tmp_path: Path, files: list[Path]) -> None:
        """pip sets each x where the checkout has one; a strict umask leaves the owner's."""
        files[0].chmod(0o700)
        before = recipe.content_key(files, tmp_path)
        files[0].chmod(0o755)
        assert recipe.content_key(files, tmp_path) == before
