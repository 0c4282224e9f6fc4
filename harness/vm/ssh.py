# SPDX-License-Identifier: GPL-2.0-only
"""Connect to the guest by SSH, with a pinned key, a port on loopback, and a deadline for each step."""

import base64
import logging
import socket
from pathlib import Path
from typing import Any

import paramiko

from harness.errors import AgentLost, HarnessError

log = logging.getLogger(__name__)

GUEST = "vfio-harness-guest"
"""The host name of the pinned key; the guest's port differs at each boot."""
KEX = ("curve25519-sha256@libssh.org",)
CIPHERS = ("aes128-ctr",)
"""Both are cheap under emulation: the default post-quantum exchange costs 0.2 s more."""


def load_key(path: Path) -> paramiko.PKey:
    """Load the image's private key. Raises HarnessError."""
    try:
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except (OSError, paramiko.SSHException) as error:
        raise HarnessError(f"{path}: no usable SSH key: {error}") from None


def connect(port: int, key: paramiko.PKey, host_key: str, timeout: float) -> paramiko.SSHClient:
    """Log in as root on 127.0.0.1:``port``; ``host_key`` is ``ssh-ed25519 AAAA...``.

    Each step has ``timeout`` seconds. Raises AgentLost, which names the step that failed.
    """
    log.debug("SSH to 127.0.0.1:%d", port)
    kind, blob = host_key.split()[:2]
    client = paramiko.SSHClient()
    client.get_host_keys().add(GUEST, kind, paramiko.Ed25519Key(data=base64.b64decode(blob)))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.connect(
            GUEST,
            username="root",
            pkey=key,
            sock=_socket(port, timeout),
            transport_factory=_transport,
            allow_agent=False,
            look_for_keys=False,
            timeout=timeout,
            banner_timeout=timeout,
            auth_timeout=timeout,
            channel_timeout=timeout,
        )
    except (OSError, EOFError, paramiko.SSHException) as error:
        client.close()
        raise AgentLost(f"SSH to the guest (127.0.0.1:{port}): {type(error).__name__}: {error}") from None
    return client


def close(client: paramiko.SSHClient) -> None:
    """Close the connection, also when Ctrl-C came while a channel was being opened."""
    if transport := client.get_transport():
        # paramiko 5.1: Transport.open_channel() registers a channel before the channel knows its transport, and then
        # Channel._unlink() fails.
        for channel in transport._channels.values():  # type: ignore[attr-defined]
            channel._set_transport(transport)
    client.close()


def _socket(port: int, timeout: float) -> socket.socket:
    """Connect without Nagle's delay: SSH writes small packets and waits for each answer."""
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _transport(sock: Any, **options: Any) -> paramiko.Transport:
    transport = paramiko.Transport(sock, **options)
    security = transport.get_security_options()
    security.kex = KEX
    security.ciphers = CIPHERS
    return transport
