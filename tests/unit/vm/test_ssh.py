# SPDX-License-Identifier: GPL-2.0-only
"""The SSH connection's end."""

import socket
import threading

import paramiko
import pytest

from harness.vm import ssh


@pytest.mark.filterwarnings("error")
def test_close_after_an_interrupt_while_a_channel_was_being_opened() -> None:
    near, far = socket.socketpair()
    server, transport = paramiko.Transport(far), paramiko.Transport(near)
    try:
        server.add_server_key(paramiko.RSAKey.generate(2048))
        server.start_server(threading.Event(), paramiko.ServerInterface())
        transport.start_client(timeout=30)
        client = paramiko.SSHClient()
        client._transport = transport
        channel = paramiko.Channel(0)
        transport._channels.put(0, channel)  # what Transport.open_channel() does before _set_transport()
        ssh.close(client)
        transport.join(30)
        assert not transport.is_active()
    finally:
        transport.close()
        server.close()
        near.close()
        far.close()
