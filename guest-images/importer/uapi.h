/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * uAPI of /dev/vfio-harness-importer.
 *
 * An open file holds at most one attachment to a dma-buf, or one access to an IO
 * address space. Closing the file unmaps, detaches, unpins, and signals its fence.
 * A call of the dma-buf core or of iommufd that fails keeps its errno. A request that does not fit the file's state fails
 * with EBADFD or EBUSY; a device that does not exist, with ENXIO.
 */
#ifndef IMPORTER_UAPI_H
#define IMPORTER_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* importer_attach.flags */
#define IMPORTER_STATIC		0x01	/* dma_buf_attach(), without ops; no other flag */
#define IMPORTER_PEER2PEER	0x02	/* dma_buf_attach_ops.allow_peer2peer */
#define IMPORTER_CALLBACK	0x04	/* invalidate_mappings(), up to 7.0 move_notify() */
#define IMPORTER_REMAP		0x08	/* the callback maps again if nothing is mapped */
#define IMPORTER_NOT_PCI	0x10	/* attach a device that is not PCI; device is ignored */
#define IMPORTER_UNLOCKED	0x20	/* map and unmap by the _unlocked() variants */
#define IMPORTER_FLAGS		0x3f

/*
 * Upper limit for anything that waits for this module, even if its user dies.
 * The hung task detector reports a task after 30 s.
 */
#define IMPORTER_MAX_DELAY_MS	20000

/**
 * struct importer_attach - argument of IMPORTER_ATTACH
 * @fd: the dma-buf
 * @device: the PCI device: domain << 16 | bus << 8 | devfn
 * @flags: IMPORTER_STATIC and the flags after it
 * @delay_ms: time from the callback to the unmap, which then runs on a work
 *	queue; at most IMPORTER_MAX_DELAY_MS. IMPORTER_RELEASE ends it early.
 *	0 unmaps in the callback.
 */
struct importer_attach {
	__s32 fd;
	__u32 device;
	__u32 flags;
	__u32 delay_ms;
};

/**
 * enum importer_umem_kind - how the RDMA core imports
 * @IMPORTER_UMEM_REVOCABLE: ib_umem_dmabuf_get_pinned_revocable_and_lock(),
 *	mapped at once; the core's notification is logged as IMPORTER_NOTIFIED
 * @IMPORTER_UMEM_PINNED: ib_umem_dmabuf_get_pinned(), mapped at once
 * @IMPORTER_UMEM_DYNAMIC: ib_umem_dmabuf_get(), mapped by IMPORTER_MAP
 */
enum importer_umem_kind {
	IMPORTER_UMEM_REVOCABLE = 0,
	IMPORTER_UMEM_PINNED = 1,
	IMPORTER_UMEM_DYNAMIC = 2,
};

/**
 * struct importer_umem - argument of IMPORTER_UMEM
 * @offset: offset of the MR in the dma-buf
 * @length: length of the MR in bytes
 * @fd: the dma-buf
 * @device: the PCI device, as in struct importer_attach
 * @flags: 0 or IMPORTER_NOT_PCI
 * @kind: enum importer_umem_kind
 * @access: enum ib_access_flags
 * @reserved: 0
 */
struct importer_umem {
	__u64 offset;
	__u64 length;
	__s32 fd;
	__u32 device;
	__u32 flags;
	__u32 kind;
	__u32 access;
	__u32 reserved;
};

/* importer_sg_entry.flags; dma_flags, where the kernel has them, begin at bit 8 */
#define IMPORTER_ENTRY_PAGE	0x01	/* the entry has a struct page */
#define IMPORTER_ENTRY_LAST	0x02	/* sg_is_last() */

/**
 * struct importer_sg_entry - one entry of the mapping's SG table
 * @address: sg_dma_address()
 * @length: sg_dma_len()
 * @cpu_offset: offset of the page side
 * @cpu_length: length of the page side
 * @flags: IMPORTER_ENTRY_PAGE, IMPORTER_ENTRY_LAST
 * @reserved: 0
 */
struct importer_sg_entry {
	__u64 address;
	__u64 length;
	__u32 cpu_offset;
	__u32 cpu_length;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct importer_sg_table - argument of IMPORTER_TABLE
 * @entries: pointer to an array of struct importer_sg_entry
 * @capacity: number of elements of that array
 * @nents: out: sg_table.nents
 * @orig_nents: out: sg_table.orig_nents
 * @reserved: 0
 */
struct importer_sg_table {
	__u64 entries;
	__u32 capacity;
	__u32 nents;
	__u32 orig_nents;
	__u32 reserved;
};

/**
 * enum importer_event_kind - what the log records
 * @IMPORTER_NOTIFIED: the callback ran; the result is 1 if there was a mapping
 * @IMPORTER_MAPPED: dma_buf_map_attachment() returned; the result is 0 or -errno
 * @IMPORTER_UNMAPPED: dma_buf_unmap_attachment() is about to run; the result is 0
 */
enum importer_event_kind {
	IMPORTER_NOTIFIED = 1,
	IMPORTER_MAPPED = 2,
	IMPORTER_UNMAPPED = 3,
};

/* The log keeps this many events. */
#define IMPORTER_EVENTS		256

/**
 * struct importer_event - one event of the log
 * @time_ns: CLOCK_MONOTONIC
 * @kind: enum importer_event_kind
 * @result: see enum importer_event_kind
 * @task: id of the thread
 * @reserved: 0
 */
struct importer_event {
	__u64 time_ns;
	__u32 kind;
	__s32 result;
	__u32 task;
	__u32 reserved;
};

/**
 * struct importer_log - argument of IMPORTER_LOG
 * @events: pointer to an array of struct importer_event
 * @capacity: number of elements of that array
 * @event_count: out: number of events, including those beyond IMPORTER_EVENTS
 * @notified: out: number of callbacks
 * @mapped: out: 1 if there is a mapping; always 0 for a buffer of the RDMA core
 */
struct importer_log {
	__u64 events;
	__u32 capacity;
	__u32 event_count;
	__u32 notified;
	__u32 mapped;
};

/**
 * struct importer_wait - argument of IMPORTER_WAIT
 * @notified: number of callbacks to wait for
 * @timeout_ms: time limit
 *
 * IMPORTER_WAIT returns 1 once the callback has run that many times, and 0 at
 * the time limit.
 */
struct importer_wait {
	__u32 notified;
	__u32 timeout_ms;
};

/**
 * enum importer_edu_op - a transfer of the edu device
 * @IMPORTER_EDU_LOAD: user memory to edu's buffer
 * @IMPORTER_EDU_STORE: edu's buffer to user memory
 * @IMPORTER_EDU_WRITE: edu's buffer to a DMA address
 * @IMPORTER_EDU_READ: a DMA address to edu's buffer
 */
enum importer_edu_op {
	IMPORTER_EDU_LOAD = 0,
	IMPORTER_EDU_STORE = 1,
	IMPORTER_EDU_WRITE = 2,
	IMPORTER_EDU_READ = 3,
};

/* QEMU's edu has 4096 bytes, and QEMU 7.2 aborts on a DMA that touches the last one. */
#define IMPORTER_EDU_SIZE	4088

/**
 * struct importer_edu - argument of IMPORTER_EDU
 * @device: the edu, bound to this module's driver; as in struct importer_attach
 * @op: enum importer_edu_op
 * @offset: offset in edu's buffer
 * @length: in bytes; offset + length is at most IMPORTER_EDU_SIZE
 * @data: a pointer for LOAD and STORE, a DMA address for WRITE and READ
 *
 * The ioctl runs one DMA, which takes 100 ms of QEMU's virtual time.
 */
struct importer_edu {
	__u32 device;
	__u32 op;
	__u32 offset;
	__u32 length;
	__u64 data;
};

/* importer_counts.flags */
#define IMPORTER_COUNTS_IOVAS	0x01	/* iovas, iova_pages and missed are valid */

/**
 * struct importer_counts - argument of IMPORTER_COUNTS
 * @iovas: calls of alloc_iova_fast() that succeeded minus calls of
 *	free_iova_fast(), since the module was loaded; may be negative
 * @iova_pages: the same, in pages of the IOVA domain
 * @registrations: users of all vfio devices: opens, and buffers they export
 * @flags: IMPORTER_COUNTS_IOVAS
 * @missed: calls of these functions that were not counted
 */
struct importer_counts {
	__s64 iovas;
	__s64 iova_pages;
	__u32 registrations;
	__u32 flags;
	__u64 missed;
};

/* Upper limit of a pause. The thread spins, so it is far below the soft lockup detector's 20 s. */
#define IMPORTER_MAX_PAUSE_MS	2000

/**
 * enum importer_pause_point - the function at whose return a thread pauses
 * @IMPORTER_PAUSE_ATTACH: vfio_pci_dma_buf_attach(): the buffer was checked, and
 *	the attachment is not on its list yet
 * @IMPORTER_PAUSE_MAP: dma_buf_phys_vec_to_sgt(): the buffer was checked, and the
 *	mapping is not counted yet
 * @IMPORTER_PAUSE_EXPORT: __vfio_pci_memory_enabled(): memory was checked, and the
 *	buffer is not on the device's list yet
 * @IMPORTER_PAUSE_CLOSE: dma_buf_file_release(): the file has no reference, and
 *	the buffer is still on the device's list
 * @IMPORTER_PAUSE_INSERT: iopt_insert_area(): the area is there, without pages, and
 *	the address space is locked
 * @IMPORTER_PAUSE_FILL: iopt_area_fill_domains(): the area is in each domain, and
 *	still without pages
 * @IMPORTER_PAUSE_PAGES: iopt_release_pages(): the last area of a mapping is gone, and
 *	the unmap goes on with the next one
 * @IMPORTER_PAUSE_FPUT: locks_remove_file(): the file has no reference, and
 *	bufinfo still lists the buffer
 * @IMPORTER_PAUSE_UMEM: ib_umem_dmabuf_get_with_dma_device(): the RDMA core has
 *	attached to the buffer, and has not locked its dma_resv yet
 * @IMPORTER_PAUSE_UNPIN: unpin_user_page_range_dirty_lock(): an area of memory is
 *	out of its domain, and still in its address space
 * @IMPORTER_PAUSE_UNLOCK: ww_mutex_unlock(): a dma_resv is free again
 * @IMPORTER_PAUSE_IOVA: free_iova_fast(): an unmap has given its IOVAs back
 * @IMPORTER_PAUSE_TABLE: sg_free_table(): an unmap has undone the mapping, and the
 *	buffer still counts it
 * @IMPORTER_PAUSE_ALIGNMENT: iopt_calculate_iova_alignment(): huge pages are off,
 *	the address space is locked, and a misaligned area turns them on again
 */
enum importer_pause_point {
	IMPORTER_PAUSE_ATTACH = 0,
	IMPORTER_PAUSE_MAP = 1,
	IMPORTER_PAUSE_EXPORT = 2,
	IMPORTER_PAUSE_CLOSE = 3,
	IMPORTER_PAUSE_INSERT = 4,
	IMPORTER_PAUSE_FILL = 5,
	IMPORTER_PAUSE_PAGES = 6,
	IMPORTER_PAUSE_FPUT = 7,
	IMPORTER_PAUSE_UMEM = 8,
	IMPORTER_PAUSE_UNPIN = 9,
	IMPORTER_PAUSE_UNLOCK = 10,
	IMPORTER_PAUSE_IOVA = 11,
	IMPORTER_PAUSE_TABLE = 12,
	IMPORTER_PAUSE_ALIGNMENT = 13,
};

/**
 * enum importer_pause_state - the value of IMPORTER_PAUSE_STATE
 * @IMPORTER_PAUSE_ARMED: no thread has come yet
 * @IMPORTER_PAUSE_ON: a thread is paused
 * @IMPORTER_PAUSE_OVER: IMPORTER_RESUME ended the pause
 * @IMPORTER_PAUSE_EXPIRED: its limit did
 */
enum importer_pause_state {
	IMPORTER_PAUSE_ARMED = 0,
	IMPORTER_PAUSE_ON = 1,
	IMPORTER_PAUSE_OVER = 2,
	IMPORTER_PAUSE_EXPIRED = 3,
};

/**
 * struct importer_pause_request - argument of IMPORTER_PAUSE
 * @point: enum importer_pause_point
 * @limit_ms: the longest pause; at most IMPORTER_MAX_PAUSE_MS
 *
 * The next thread of the caller's process that returns from the function
 * pauses, once. It keeps its locks and its processor. Closing the file ends the
 * pause. EOPNOTSUPP without CONFIG_KRETPROBES.
 */
struct importer_pause_request {
	__u32 point;
	__u32 limit_ms;
};

/* Upper limit of importer_access_range.length. */
#define IMPORTER_ACCESS_MAX	65536

/* importer_access_range.flags */
#define IMPORTER_ACCESS_WRITE	0x01	/* IOMMUFD_ACCESS_RW_WRITE */

/**
 * struct importer_access_request - argument of IMPORTER_ACCESS
 * @fd: an iommufd
 * @ioas: ID of the IO address space
 * @delay_ms: time from iommufd's callback to the unpin, in which IMPORTER_RELEASE
 *	ends it early; at most IMPORTER_MAX_DELAY_MS. iommufd waits in the callback.
 * @reserved: 0
 *
 * The log records each callback as IMPORTER_NOTIFIED; the result is 1 if a page
 * of its range was pinned. IMPORTER_DETACH ends the access.
 */
struct importer_access_request {
	__s32 fd;
	__u32 ioas;
	__u32 delay_ms;
	__u32 reserved;
};

/**
 * struct importer_access_range - argument of IMPORTER_ACCESS_PIN, _UNPIN and _RW
 * @iova: the first byte
 * @length: in bytes; at most IMPORTER_ACCESS_MAX
 * @data: pointer to @length bytes. PIN writes what the pinned pages hold, UNPIN
 *	ignores it. RW reads it with IMPORTER_ACCESS_WRITE, and writes it otherwise.
 * @flags: 0 or IMPORTER_ACCESS_WRITE
 * @reserved: 0
 */
struct importer_access_range {
	__u64 iova;
	__u64 length;
	__u64 data;
	__u32 flags;
	__u32 reserved;
};

#define IMPORTER_ATTACH		_IOW('V', 0, struct importer_attach)
#define IMPORTER_DETACH		_IO('V', 1)
#define IMPORTER_MAP		_IO('V', 2)	/* argument: enum dma_data_direction */
#define IMPORTER_UNMAP		_IO('V', 3)
#define IMPORTER_PIN		_IO('V', 4)
#define IMPORTER_UNPIN		_IO('V', 5)
#define IMPORTER_RELEASE	_IO('V', 6)	/* ends the delay before an unmap or unpin */
#define IMPORTER_TABLE		_IOWR('V', 7, struct importer_sg_table)
#define IMPORTER_LOG		_IOWR('V', 8, struct importer_log)
#define IMPORTER_FENCE		_IO('V', 9)	/* adds a fence; argument: enum dma_resv_usage */
#define IMPORTER_SIGNAL		_IO('V', 10)	/* signals that fence */
#define IMPORTER_EDU		_IOW('V', 11, struct importer_edu)
#define IMPORTER_COUNTS		_IOR('V', 12, struct importer_counts)
#define IMPORTER_PAUSE		_IOW('V', 13, struct importer_pause_request)
#define IMPORTER_PAUSE_STATE	_IO('V', 14)	/* returns enum importer_pause_state */
#define IMPORTER_RESUME		_IO('V', 15)	/* ends the pause */
#define IMPORTER_UMEM		_IOW('V', 16, struct importer_umem)
#define IMPORTER_REVOKE		_IO('V', 17)	/* ib_umem_dmabuf_revoke() */
#define IMPORTER_ACCESS		_IOW('V', 18, struct importer_access_request)
#define IMPORTER_ACCESS_PIN	_IOW('V', 19, struct importer_access_range)
#define IMPORTER_ACCESS_UNPIN	_IOW('V', 20, struct importer_access_range)
#define IMPORTER_ACCESS_RW	_IOW('V', 21, struct importer_access_range)
#define IMPORTER_WAIT		_IOW('V', 22, struct importer_wait)

#endif
