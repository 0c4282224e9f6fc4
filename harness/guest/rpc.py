# SPDX-License-Identifier: GPL-2.0-only
"""The protocol: requests and replies, one JSON object per line.

Request: ``{"id", "on", "do", "args", "thread"}``. ``on`` is a service (a module of this package) or the number of an
object from an earlier reply. ``do`` is its public function or method. With ``thread`` the call runs on a thread of its
own, so that the host can observe the guest while a kernel call blocks; replies may then come out of order.

Reply: ``{"id"}`` and one of ``ok`` (the result), ``errno`` and ``call`` (the kernel refused ``call``), ``refused`` (the
status with which an importer's device refused), ``stuck`` (what a device or process did not do in time) or ``defect``
(the end of the agent's traceback).

Bytes travel as ``{"$bytes": base64}``, objects as ``{"$object": number}``. The ``$``
distinguishes them from an argument of that name.
"""

import binascii
import importlib
import itertools
import json
import os
import select
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from .poll import Stuck
from .resource import Resource, close_all

if TYPE_CHECKING:
    from .processes import Process

LINE_LIMIT = 4 << 20
"""Longest line in bytes; 1 MiB of data is 1.4 MiB of base64."""
TRACEBACK_LIMIT = 4000
"""Longest traceback in a reply, in characters."""
# Imported at their first use, or earlier while the agent is idle. verbs, the slowest, and its users are last.
SERVICES = (
    "pci",
    "iommufd",
    "vfio",
    "nvme",
    "edu",
    "container",
    "dmabuf",
    "importer",
    "access",
    "user_memory",
    "vmstat",
    "dma_api_nvme",
    "noiommu",
    "feature_request",
    "gcov",
    "fail_nth",
    "pause",
    "teardown",
    "holder",
    "races",
    "processes",
    "sync",
    "repeat",
    "leaks",
    "page_table",
    "references",
    "stimuli",
    "verbs",
    "rdma_storm",
    "rdma_peer",
    "klog",
    "programs",
    "io_uring",
)


class Refused(Exception):
    """The importing device refused a transfer. The message is its status."""


class Server:
    """Serves requests until end of file. It has one thread, plus one for each request with ``thread``."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests = requests
        self._replies = replies
        self._sending = threading.Lock()
        self._objects: dict[int, Any] = {}
        self._names: dict[int, int] = {}
        self._numbers = itertools.count(1)

    def serve(self) -> None:
        """Send the hello, then answer requests. At the end close everything, so that no device stays open."""
        self._send({"hello": {"pid": os.getpid(), "python": sys.version.split()[0], "release": os.uname().release}})
        self._import_while_idle()
        self._answer_all()
        close_all()

    def _answer_all(self) -> None:
        while line := self._requests.readline(LINE_LIMIT):
            request = json.loads(line, object_hook=self._decode)
            if request.get("thread"):
                threading.Thread(target=self._answer, args=(request,), daemon=True).start()
            else:
                self._answer(request)

    def _import_while_idle(self) -> None:
        for service in SERVICES:
            if select.select([self._requests], [], [], 0)[0]:
                break
            with suppress(ImportError):  # an image without pyverbs; a call of verbs reports it
                importlib.import_module(f".{service}", __package__)

    def _answer(self, request: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": request["id"]}
        try:
            reply["ok"] = self._call(request["on"], request["do"], request.get("args", {}))
        except Refused as exc:
            reply["refused"] = str(exc)
        except Stuck as exc:
            reply["stuck"] = str(exc)
        except OSError as exc:
            if exc.errno is None:
                reply["defect"] = _traceback()
            else:
                reply["errno"] = exc.errno
                reply["call"] = str(exc.filename or "system call")
        except Exception:
            reply["defect"] = _traceback()
        self._send(reply)

    def _call(self, on: str | int, do: str, args: dict[str, Any]) -> Any:
        if do.startswith("_"):
            raise ValueError(f"{do} is private")
        if on == "rpc":
            return getattr(self, do)(**args)
        if isinstance(on, int):
            return getattr(self._objects[on], do)(**args)
        if on not in SERVICES:
            raise ValueError(f"no service {on}; there are {', '.join(SERVICES)}")
        return getattr(importlib.import_module(f".{on}", __package__), do)(**args)

    def fork(self) -> "Process":
        """Fork a process that answers requests about this agent's objects, which have the same numbers there."""
        from .processes import Process  # noqa: PLC0415 - costs the emulated guest 0.1 s, and few cases fork

        return Process(self._serve_copy)

    def _serve_copy(self, requests: BinaryIO, replies: BinaryIO) -> None:
        copy = Server(requests, replies)
        copy._objects, copy._names, copy._numbers = self._objects, self._names, self._numbers
        copy._answer_all()

    def reset_all(self, keep: list[Resource]) -> list[str]:
        """Close every object except ``keep``. Returns the errors."""
        failures = close_all(keep)
        kept = set(map(id, keep))
        self._objects = {number: thing for number, thing in self._objects.items() if id(thing) in kept}
        self._names = {id(thing): number for number, thing in self._objects.items()}
        return failures

    def _decode(self, value: dict[str, Any]) -> Any:
        if "$bytes" in value:
            return binascii.a2b_base64(value["$bytes"])
        if "$object" in value:
            return self._objects[value["$object"]]
        return value

    def _encode(self, value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return {"$bytes": binascii.b2a_base64(value, newline=False).decode()}
        if isinstance(value, Resource):
            number = self._names.get(id(value))
            if number is None:
                number = self._names[id(value)] = next(self._numbers)
                self._objects[number] = value
            return {"$object": number}
        raise TypeError(f"cannot send a {type(value).__name__}")

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, default=self._encode).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            line = json.dumps({"id": message["id"], "defect": f"a reply of {len(line)} bytes"}).encode() + b"\n"
        with self._sending:
            self._replies.write(line)
            self._replies.flush()


def _traceback() -> str:
    """Return the end of the traceback of the exception that is being handled."""
    import traceback  # noqa: PLC0415 - costs the emulated guest 0.05 s

    return traceback.format_exc()[-TRACEBACK_LIMIT:]


def main() -> None:
    """Serve on stdin and stdout. The output of libraries goes to stderr, so that it cannot break the protocol."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    Server(sys.stdin.buffer, replies).serve()
