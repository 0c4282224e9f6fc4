# SPDX-License-Identifier: GPL-2.0-only
"""SSH keys: paramiko and dropbear must read the same pair."""

import base64
import io
import stat
from pathlib import Path

import paramiko
import pytest

from harness.image.keys import Key, write_secret


def test_paramiko_reads_the_private_key() -> None:
    key = Key.generate()
    read = paramiko.Ed25519Key.from_private_key(io.StringIO(key.openssh.decode()))
    assert f"{read.get_name()} {read.get_base64()}" == key.public_line


def test_dropbear_form_is_type_then_private_and_public() -> None:
    key = Key.generate()
    assert key.dropbear[:19] == b"\0\0\0\x0bssh-ed25519\0\0\0\x40"
    public_blob = base64.b64decode(key.public_line.split()[1])
    assert len(key.dropbear) == 19 + 64
    assert key.dropbear[-32:] == public_blob[-32:]


def test_each_key_is_new() -> None:
    assert Key.generate().public_line != Key.generate().public_line


def test_only_the_owner_reads_a_secret_and_none_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_secret(path, b"other")
    assert path.read_bytes() == b"secret"
