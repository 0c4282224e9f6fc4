# SPDX-License-Identifier: GPL-2.0-only
"""An image's SSH keys: the login key of the harness and the host key of the guest. Both are Ed25519."""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_TYPE = b"ssh-ed25519"


@dataclass(frozen=True)
class Key:
    """A key pair in the encodings of OpenSSH and dropbear."""

    private: Ed25519PrivateKey
    """The private half, from which the public one follows."""

    @classmethod
    def generate(cls) -> "Key":
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public_line(self) -> str:
        """Return the public key as in ``authorized_keys`` and ``known_hosts``: ``ssh-ed25519 AAAA...``."""
        encoding, form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        return self.private.public_key().public_bytes(encoding, form).decode()

    @property
    def openssh(self) -> bytes:
        """Return the private key as ``ssh -i`` and paramiko read it."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )

    @property
    def dropbear(self) -> bytes:
        """Return the private key for dropbear: two SSH strings (RFC 4251, 5), the type and private || public."""
        pair = self.private.private_bytes_raw() + self.private.public_key().public_bytes_raw()
        return b"".join(len(part).to_bytes(4, "big") + part for part in (_TYPE, pair))


@dataclass(frozen=True)
class Keys:
    """The keys of one image."""

    login: Key
    """The harness's."""
    host: Key
    """The guest's."""


def write_secret(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, from its first byte on. Raises FileExistsError."""
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(content)
