# SPDX-License-Identifier: GPL-2.0-only
"""A revoke between the check and the use of another call: a pause in the kernel makes these races happen each time."""

import pytest

from harness.cases.areas import Areas
from harness.cases.constants import PAGE, U64
from harness.cases.marks import importers, rows_in
from harness.cases.must import must, must_fail
from harness.cases.probe import must_arrive, must_be_blocked, ring
from harness.cases.types import Attach
from harness.session import HOLD_MS, Attachment, Cmb, Device, DmaBuf, Importer, Ioas, Nvme, Session, Window
from harness.session.handle import Handle
from harness.session.importers import Domain
from harness.session.nvme import DOORBELL_PAGE, REGISTERS
from harness.session.pause import interleave
from harness.session.races import Operation, attach_operation, attachment_operation, export_operation, umem_operation
from harness.witness import Watch

pytestmark = pytest.mark.needs("kprobes", "test_importer", "importer_rules", "awaited_revoke")
rows = rows_in("interleaved")

FREE_S = 1.5
"""Time limit of a call that waits for nothing."""
BLOCKED_S = 0.3
"""A call that has not ended after this time waits."""
LOCKED_S = 0.1
"""Time for a call to reach a lock that the paused call holds, for a slowdown of 1."""
UNCACHED = 64 * PAGE
"""Bytes of a mapping whose IOVAs are free for every CPU at once: more than the caches hold (iova_rcache_range())."""
FAR = 1 << 39
"""An IOVA that nothing uses, above those that the agent chooses and below the limit of the IOMMU."""
BELOW = 128 << 30
"""An IOVA that nothing uses, below those that the agent chooses."""


def revokes(device: Device) -> Operation:
    """Clear COMMAND.MEM."""
    return Operation(device, "set_memory", {"on": False})


def resets(device: Device) -> Operation:
    """Call VFIO_DEVICE_RESET: revoke and un-revoke."""
    return Operation(device, "reset")


def maps(attachment: Attachment) -> Operation:
    """Map by the DMA API."""
    return Operation(attachment, "map")


def ends_map(attachment: Attachment) -> Operation:
    """Unmap by the DMA API."""
    return Operation(attachment, "unmap")


def maps_file(space: Ioas, buffer: DmaBuf, iova: int, length: int) -> Operation:
    """Call IOMMU_IOAS_MAP_FILE."""
    return Operation(space, "map_file", {"dmabuf": buffer, "start": 0, "length": length, "iova": iova})


def unmaps(space: Ioas, iova: int, length: int) -> Operation:
    """Call IOMMU_IOAS_UNMAP."""
    return Operation(space, "unmap", {"iova": iova, "length": length})


def copies(space: Ioas, source_iova: int, length: int, iova: int) -> Operation:
    """Call IOMMU_IOAS_COPY within an address space."""
    return Operation(space, "copy", {"source": space, "source_iova": source_iova, "length": length, "iova": iova})


def splits(space: Ioas, iova: int) -> Operation:
    """Call VFIO_IOMMU_UNMAP_DMA for a page, which splits an area where it can."""
    return Operation(space, "unmap_as_type1", {"iova": iova, "length": PAGE})


def turns_huge_pages_off(space: Ioas) -> Operation:
    """Clear IOMMU_OPTION_HUGE_PAGES."""
    return Operation(space, "set_huge_pages", {"on": False})


def changes_process(iommufd: Handle) -> Operation:
    """Call IOMMU_IOAS_CHANGE_PROCESS."""
    return Operation(iommufd, "change_process")


def begins(space: Ioas, device: Device) -> Operation:
    """Make a domain over an address space. Unlike the attach of a device it locks the domains first."""
    return Operation(space, "domain", {"device": device}, opens=lambda ref: Domain(space.agent, ref))


def ends(domain: Domain) -> Operation:
    """Destroy a domain that no device is in."""
    return Operation(domain, "destroy")


def leaves(device: Device) -> Operation:
    """Call VFIO_DEVICE_DETACH_IOMMUFD_PT: the domain of the device ends."""
    return Operation(device, "detach")


def closes(buffer: DmaBuf) -> Operation:
    """Drop the buffer's last reference."""
    return Operation(buffer, "close")


@rows("lifecycle.interleaved", "importers.revoked")
@importers("iommufd+nvme")
def test_a_revoke_during_an_attach(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A buffer that is revoked between an attach's check and its map is not mapped."""
    attaching = attach_operation(importer, buffer)
    result = interleave(session, "attach", attaching, revokes(nvme.device), seconds=FREE_S)
    must(result.meanwhile == "ok", "a revoke during an attach succeeds", result)
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "after a revoke during an attach no entry points into the buffer", f"{entries}; {result}")
    nvme.device.set_memory(True)
    nvme.start()
    if isinstance(result.opened, Window):
        must_be_blocked(ring(nvme, result.opened, watch), "a mapping begun before a revoke does not outlive it")
    else:
        must(result.paused == "ENODEV", "a map whose buffer is revoked under way gives ENODEV", result)
    must_arrive(ring(nvme, importer.attach(buffer), watch), "after the un-revoke a new mapping is live")


@rows("lifecycle.interleaved", "lifecycle.notified")
def test_a_revoke_right_after_an_attach(session: Session, nvme: Nvme, buffer: DmaBuf) -> None:
    """A revoke notifies an attachment as soon as the attach has released the buffer's lock."""
    attaching = attachment_operation(session, buffer, RNIC)
    result = interleave(session, "unlock", attaching, resets(nvme.device), seconds=FREE_S)
    must(result.paused == result.meanwhile == "ok", "an attach and a reset at the same time succeed", result)
    assert isinstance(result.opened, Attachment)
    events = result.opened.events()
    must(len(events) == 2, "a reset right after an attach notifies of the revoke and of the un-revoke", events)


@rows("lifecycle.interleaved", "lifecycle.waits")
@importers("dma-api+edu")
def test_a_revoke_during_a_map(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """A revoke waits for a map that is under way, and ends the mapping."""
    attachment = session.attach(buffer, device_id=importer.device_id)
    result = interleave(session, "map", maps(attachment), revokes(nvme.device), seconds=BLOCKED_S)
    must(result.blocked, "a revoke waits for a map that is under way", result)
    must(result.paused == result.meanwhile == "ok", "a map and a revoke that waits for it succeed", result)
    must(not attachment.mapped(), "a revoke ends a mapping that was under way", attachment.events())
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "after a revoke during a map no entry points into the buffer", entries)


@rows("lifecycle.interleaved", "lifecycle.waits")
@importers("dma-api+edu")
def test_a_revoke_during_an_unmap(session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer) -> None:
    """A revoke whose importers are slow waits for an unmap that is under way."""
    attachment = session.attach(buffer, device_id=importer.device_id, delay_ms=HOLD_MS)
    attachment.map()
    revoke = session.start(nvme.device.set_memory, False)
    must(attachment.wait_notified(), "a revoke notifies an attachment")
    exporting = export_operation(nvme.device, REGISTERS, [DOORBELL_PAGE])  # needs memory_lock, which the revoke holds
    result = interleave(session, "table", ends_map(attachment), exporting, seconds=BLOCKED_S)
    must(result.blocked, "a revoke waits for an unmap that is under way", result)
    must(result.paused == result.meanwhile == "ok", "an unmap and what waits for the revoke succeed", result)
    revoke.result()


@rows("importers.iova-freed")
@importers("dma-api+edu")
def test_a_map_during_an_unmap_by_the_dma_api(session: Session, nvme: Nvme, cmb: Cmb, importer: Importer) -> None:
    """An IOVA that an unmap gives back is unmapped by then: another map of the device can have it at once."""
    assert importer.device_id
    if not session.translated(importer.device_id) or session.lazy():
        pytest.skip("an unmap here gives no IOVA back, or only later")
    first, second = (
        session.attach(nvme.device.export(cmb.region, [(cmb.offset, UNCACHED)]), device_id=importer.device_id)
        for _ in range(2)
    )
    first.map()
    before = first.table().entries[0].address
    result = interleave(session, "iova", ends_map(first), maps(second), seconds=FREE_S)
    must(result.paused == result.meanwhile == "ok", "a map succeeds while another one is unmapped", result)
    after = second.table().entries[0].address
    must(before == after, "a map gets the IOVAs that an unmap has given back", f"{before:#x}, and then {after:#x}")


@rows("lifecycle.interleaved", "lifecycle.export")
@importers("iommufd+nvme")
def test_a_revoke_during_an_export(session: Session, nvme: Nvme, importer: Importer, watch: Watch) -> None:
    """A buffer whose memory is disabled while it is exported is revoked."""
    exporting = export_operation(nvme.device, REGISTERS, [DOORBELL_PAGE])
    result = interleave(session, "export", exporting, revokes(nvme.device), seconds=BLOCKED_S)
    must(result.paused == result.meanwhile == "ok", "an export and a revoke at the same time succeed", result)
    assert isinstance(result.opened, DmaBuf)
    with must_fail("ENODEV", "a buffer exported while memory is disabled is revoked"):
        importer.attach(result.opened)
    nvme.device.set_memory(True)
    nvme.start()
    window = importer.attach(result.opened)
    must_arrive(ring(nvme, window, watch), "a buffer exported while memory is disabled is un-revoked with it")


@rows("lifecycle.interleaved", "lifecycle.several")
@importers("iommufd+nvme")
def test_an_export_during_an_export(
    session: Session, nvme: Nvme, importer: Importer, attach: Attach, watch: Watch
) -> None:
    """An export waits for another export of the device that is under way, and a revoke reaches both."""
    exporting = export_operation(nvme.device, REGISTERS, [DOORBELL_PAGE])
    result = interleave(session, "export", exporting, exporting, seconds=BLOCKED_S)
    must(result.paused == result.meanwhile == "ok", "two exports at the same time succeed", result)
    must(result.blocked, "an export waits for another one that is under way", result)
    buffers = [each for each in (result.opened, result.opened_meanwhile) if isinstance(each, DmaBuf)]
    windows = [importer.attach(buffer) for buffer in buffers]
    attachments = [attach(buffer) for buffer in buffers]
    for attachment in attachments:
        attachment.map()
    for window in windows:
        must_arrive(ring(nvme, window, watch), "each of two exports at the same time is live")
    nvme.device.reset()
    nvme.start()
    for window, attachment in zip(windows, attachments, strict=True):
        must_be_blocked(ring(nvme, window, watch), "a revoke reaches each of two exports at the same time")
        must(attachment.notifications() == 2, "a reset notifies the importer of each, twice", attachment.events())
        must(not attachment.mapped(), "a revoke ends the mapping of each", attachment.events())


@rows("lifecycle.interleaved", "lifecycle.notified", "importers.revoked")
@importers("dma-api+edu")
def test_a_revoke_during_a_dynamic_attach(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """An attachment of a kernel driver that a revoke overtakes can map after the un-revoke, and not before."""
    attaching = attachment_operation(session, buffer, importer.device_id)
    for revoke, expected in ((resets(nvme.device), 0), (revokes(nvme.device), 1)):
        result = interleave(session, "attach", attaching, revoke, seconds=FREE_S)
        must(result.paused == result.meanwhile == "ok", f"an attach and {revoke.name} at the same time succeed", result)
        attachment = result.opened
        assert isinstance(attachment, Attachment)
        must(not attachment.notifications(), "a revoke notifies no attachment that comes later", attachment.events())
        if expected:
            with must_fail("ENODEV", "an attachment that a revoke overtook cannot map while the buffer is revoked"):
                attachment.map()
            nvme.device.set_memory(True)
        nvme.start()
        attachment.map()
        notified = attachment.notifications() == expected
        must(
            notified, "an attachment that a revoke overtook is notified of the un-revoke after it", attachment.events()
        )
        rung = ring(nvme, importer.window(buffer, attachment), watch)
        must_arrive(rung, "after the un-revoke the mapping of an attachment that a revoke overtook is live")
        nvme.device.reset()
        nvme.start()
        must(not attachment.mapped(), "the next revoke ends the mapping", attachment.events())
        attachment.close()


@rows("lifecycle.interleaved", "lifecycle.last-reference")
@importers("iommufd+nvme")
def test_a_revoke_during_a_release(
    session: Session, nvme: Nvme, buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A revoke passes over a buffer whose last reference is gone, and revokes the others."""
    going = nvme.export_doorbells()
    window = importer.attach(buffer)
    result = interleave(session, "close", closes(going), revokes(nvme.device), seconds=FREE_S)
    must(result.paused == result.meanwhile == "ok", "a close and a revoke at the same time succeed", result)
    must(len(left := session.bufinfo()) == 1, "a buffer is released once its last reference is gone", left)
    entries = session.page_table_entries(importer, nvme.device, buffer)
    must(not entries, "a revoke during a release revokes the other buffers", entries)
    nvme.device.set_memory(True)
    nvme.start()
    must_be_blocked(ring(nvme, window, watch), "a mapping of another buffer is dead after a revoke during a release")


@rows("lifecycle.interleaved", "importers.iommufd-domain")
@importers("iommufd+nvme")
def test_domains_come_and_go_during_a_map(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A domain that comes or goes while a map is under way gets the area, or leaves nothing of it behind."""
    assert importer.device
    space, length = session.ioas(importer), cmb_buffer.size()
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    memory = session.user_memory(2)
    memory.forbid(PAGE)
    unfit = FAR + (1 << 30)
    others = [session.new_domain(importer) for _ in range(2)]
    # A map has inserted its area, and has not filled it. Then the second domain of three goes, the last one goes, a
    # domain cannot come, and a domain comes.
    acts = [
        ("ok", ends(others[0])),
        ("ok", ends(others[1])),
        ("EFAULT", begins(space, importer.device)),
        ("ok", begins(space, importer.device)),
    ]
    patience = min(LOCKED_S * session.machine.slowdown, FREE_S)
    windows = []
    for number, (outcome, act) in enumerate(acts):
        if number == 1:
            importer.device.detach()
        if outcome == "EFAULT":
            memory.map(space, 0, 2 * PAGE, at=unfit)
        iova = FAR + number * 0x100000
        result = interleave(session, "insert", maps_file(space, cmb_buffer, iova, length), act, seconds=patience)
        must(result.paused == "ok", f"a map succeeds during {act.name}", result)
        must(result.meanwhile == outcome, f"{act.name} during a map gives {outcome}", result)
        if outcome == "EFAULT":
            space.unmap(unfit, 2 * PAGE)
        windows.append(importer.area(cmb_buffer, iova))
    assert isinstance(result.opened_meanwhile, Domain)
    result.opened_meanwhile.enter()
    for window in windows:
        areas.must_be_live(window, "an area whose map was under way when domains came and went is live")
    nvme.device.reset()
    for window in windows:
        areas.must_be_dead(window, "a reset revokes an area whose map was under way when domains came and went")


@rows("lifecycle.interleaved", "importers.iommufd-unmap-parts", "importers.iommufd-change-process")
@importers("iommufd+nvme")
def test_an_area_under_way_is_not_unmapped(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A map that is under way gives an unmap, a split and a change of process EBUSY, and then succeeds."""
    space, length = session.ioas(), cmb_buffer.size()
    space.set_huge_pages(False)
    acts = [
        unmaps(space, FAR, length),
        unmaps(space, 0, U64 - 1),
        splits(space, FAR),
        changes_process(Handle(session.agent, space.iommufd)),
    ]
    mapping = maps_file(space, cmb_buffer, FAR, length)
    for act in acts:
        space.unmap_all()
        result = interleave(session, "fill", mapping, act, seconds=FREE_S)
        must(result.meanwhile == "EBUSY", f"{act.name} during a map is refused", result)
        must(result.paused == "ok", f"a map succeeds during {act.name}", result)
    importer = session.importer_in(space, importer.kind.name)
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    window = importer.area(cmb_buffer, FAR)
    areas.must_be_live(window, "an area that was not unmapped during its map is live")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes an area that was not unmapped during its map")
    must(window.detach() == length, "an area that was not unmapped during its map is unmapped whole")


@rows("lifecycle.interleaved", "importers.iommufd-unmap-parts")
@importers("iommufd+nvme")
def test_a_map_during_an_unmap(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """An unmap of several areas passes over an area that is mapped meanwhile where it has just unmapped one."""
    space, length = session.ioas(importer), cmb_buffer.size()
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    for number in range(2):
        space.map_file(cmb_buffer, at=FAR + number * length)
    mapping = maps_file(space, cmb_buffer, FAR, length)
    result = interleave(session, "pages", unmaps(space, FAR, 2 * length), mapping, seconds=FREE_S)
    must(result.meanwhile == "ok", "a map succeeds where an unmap has just unmapped an area", result)
    must(result.paused == "ok", "an unmap succeeds although an area is mapped behind it", result)
    areas.must_be_live(window := importer.area(cmb_buffer, FAR), "an area that is mapped behind an unmap is live")
    whole = [(at, PAGE) for at in range(0, length, PAGE)]
    areas.must_be_mapped(whole, "an unmap of several areas unmaps each that was there when it came by")
    nvme.device.reset()
    areas.must_be_dead(window, "a reset revokes an area that was mapped behind an unmap")


@rows("lifecycle.interleaved", "importers.iommufd-unmap-parts")
@importers("iommufd+nvme")
def test_an_area_that_goes_is_not_used(session: Session, importer: Importer) -> None:
    """An area that is being unmapped is neither unmapped again nor copied."""
    space, memory = session.ioas(importer), session.user_memory(1)
    for errno, act in (("ENOENT", copies(space, FAR, PAGE, FAR + PAGE)), ("EBUSY", unmaps(space, FAR, PAGE))):
        memory.map(space, 0, PAGE, at=FAR)
        result = interleave(session, "unpin", unmaps(space, FAR, PAGE), act, seconds=FREE_S)
        must(result.meanwhile == errno, f"{act.name} during an unmap gives {errno}", result)
        must(result.paused == "ok", f"an unmap succeeds during {act.name}", result)


@pytest.mark.needs("iommufd")
@rows("lifecycle.interleaved", "importers.iommufd-split", "importers.iommufd-huge-pages")
def test_a_split_while_huge_pages_stay_on(session: Session, cmb_buffer: DmaBuf) -> None:
    """A split that has seen huge pages off splits an area of no domain, also if they are on again meanwhile."""
    space, memory = session.ioas(), session.user_memory(2)
    memory.map(space, 0, 2 * PAGE, at=FAR)
    part = space.map_file(cmb_buffer, 0x10, 0x20, at=BELOW + 0x10)
    result = interleave(session, "alignment", turns_huge_pages_off(space), splits(space, FAR), seconds=BLOCKED_S)
    must(result.paused == "EADDRINUSE", "huge pages stay on beside an area of a part of a page", result)
    must(result.blocked and result.meanwhile == "ok", "a split waits for the option, and succeeds", result)
    must(space.unmap(FAR + PAGE, PAGE) == PAGE, "the rest of a split area is unmapped")
    must(space.unmap(part, 0x20) == 0x20, "an area beside a split one is unmapped whole")


@rows("lifecycle.interleaved", "importers.iommufd-domain")
@importers("iommufd+nvme")
def test_a_revoke_during_the_end_of_a_domain(
    session: Session, nvme: Nvme, cmb_buffer: DmaBuf, importer: Importer, watch: Watch
) -> None:
    """A revoke while a domain ends unmaps the areas that the domain still has, and none that it has lost."""
    assert importer.device
    space, length = session.ioas(importer), cmb_buffer.size()
    areas = Areas(session, importer, nvme.device, cmb_buffer, watch)
    # A domain loses its areas in the order of their IOVAs. The importer's own memory, of which the first page that is
    # unpinned pauses the end, is between the two areas of the buffer. The lower one is the newer one.
    upper = space.map_file(cmb_buffer, at=FAR)
    lower = space.copy(space, upper, length, at=BELOW)
    windows = [importer.area(cmb_buffer, iova) for iova in (lower, upper)]
    for window in windows:
        areas.must_be_live(window, "an area is live before its domain ends")
    result = interleave(session, "unpin", leaves(importer.device), revokes(nvme.device), seconds=FREE_S)
    must(not result.blocked, "a revoke does not wait for the end of a domain that is at another area", result)
    must(result.paused == result.meanwhile == "ok", "a revoke and the end of a domain succeed", result)
    nvme.device.set_memory(True)
    nvme.cmb()
    importer.device.attach()
    for window in windows:
        areas.must_be_dead(window, "an area whose domain ended during a revoke is dead")
    unmapped = [window.detach() for window in windows]
    must(unmapped == [length, length], "areas whose domain ended during a revoke are unmapped whole", unmapped)


RNIC = "roce0"
"""The device that the RDMA core imports for."""


@pytest.mark.needs("dma-api")
@rows("lifecycle.interleaved", "importers.rdma-core")
def test_a_revoke_during_an_import_by_the_rdma_core(session: Session, nvme: Nvme, buffer: DmaBuf) -> None:
    """A buffer that is revoked and un-revoked while the RDMA core imports it is refused, and a new import succeeds."""
    session.umem(buffer, device_id=RNIC).detach()
    importing = umem_operation(session, buffer, RNIC)
    result = interleave(session, "umem", importing, resets(nvme.device), seconds=FREE_S)
    must(result.meanwhile == "ok", "a reset during an import by the RDMA core succeeds", result)
    must(result.paused == "EINVAL", "an import whose buffer is revoked under way is refused", result)
    part = session.umem(buffer, device_id=RNIC)
    must(part.table().nents == 1, "after the un-revoke the RDMA core imports the buffer", part.table())
    part.detach()
    buffer.close()
    must(not session.bufinfo(), "a refused import keeps no reference to the dma-buf", session.bufinfo())


@rows("uapi.bufinfo")
def test_bufinfo_during_a_release(session: Session, buffer: DmaBuf) -> None:
    """bufinfo shows a buffer whose last reference is gone with 0 references until it is released."""
    result = interleave(session, "fput", closes(buffer), Operation("dmabuf", "must_list", {"files": 0}), seconds=FREE_S)
    must(result.meanwhile == "ok", "bufinfo shows a buffer that is being released with 0 references", result)
    must(not session.bufinfo(), "bufinfo lists no buffer that was released", session.bufinfo())
