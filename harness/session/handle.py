# SPDX-License-Identifier: GPL-2.0-only
"""The base class of all handles on objects in the guest."""

from typing import Any, Self

from harness.session.client import CALL_SECONDS, Caller
from harness.session.wire import Ref


class Handle:
    """An object in the guest.

    Every method may raise KernelErrno, AgentError, AgentLost, or the error that ended the VM.
    """

    def __init__(self, agent: Caller, ref: Ref) -> None:
        self.agent = agent
        self.ref = ref
        agent.set_name(ref, type(self).__name__)

    def _call(self, do: str, /, *, timeout: float = CALL_SECONDS, **args: Any) -> Any:
        return self.agent.call(self.ref, do, timeout=timeout, **args)

    def close(self) -> None:
        """Close the object in the guest. A second close does nothing."""
        self._call("close")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
