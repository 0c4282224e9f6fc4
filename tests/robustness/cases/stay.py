# SPDX-License-Identifier: GPL-2.0-only
"""A case that stays in a call into the guest until it is interrupted."""

from harness.session import Importer, Nvme, Session


def test_first(nvme: Nvme) -> None:
    """This case ends before the next one begins."""


def test_stay(session: Session, nvme: Nvme, importer: Importer) -> None:
    """An export, an importer's mapping and a call that does not return are open."""
    importer.attach(nvme.export_doorbells())
    print("in the case", flush=True)
    _, out, _ = session.machine.ssh().exec_command("sleep 100")
    out.read()
