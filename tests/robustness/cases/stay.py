# SPDX-License-Identifier: GPL-2.0-only
"""A case that stays in a call into the guest, for who wants to interrupt it."""

from harness.session import Importer, Nvme, Session


def test_first(nvme: Nvme) -> None:
    """One that ends before."""


def test_stay(session: Session, nvme: Nvme, importer: Importer) -> None:
    """Everything is open and in use: an export, an importer's mapping, a call that does not return."""
    importer.attach(nvme.export_doorbells())
    print("in the case", flush=True)
    _, out, _ = session.machine.ssh().exec_command("sleep 100")
    out.read()
