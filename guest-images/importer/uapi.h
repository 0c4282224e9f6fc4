/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/vfio-harness-importer: an open file is at most one attachment to a
 * dma-buf. Closing it unmaps, detaches, and signals its fence. A failed call of
 * the dma-buf core keeps its errno; a request that does not fit the file's
 * state is EBADFD or EBUSY, and a device that is not there ENXIO.
 */
#ifndef IMPORTER_UAPI_H
#define IMPORTER_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* importer_attach.flags */
#define IMPORTER_STATIC		(1u << 0)	/* dma_buf_attach: no ops; excludes all others */
#define IMPORTER_PEER2PEER	(1u << 1)	/* allow_peer2peer */
#define IMPORTER_CALLBACK	(1u << 2)	/* invalidate_mappings, or move_notify */
#define IMPORTER_REMAP		(1u << 3)	/* the callback maps what it finds unmapped */
#define IMPORTER_NOT_PCI	(1u << 4)	/* on behalf of a device that is not PCI; device is ignored */
#define IMPORTER_RDMA		(1u << 5)	/* pinned and mapped by the RDMA core; excludes all others */
#define IMPORTER_FLAGS		0x3fu

/* Whatever happens to user space, nobody waits longer for us; the hung task detector has 30 s. */
#define IMPORTER_PATIENCE_MS	20000u

struct importer_attach {
	__s32 fd;
	__u32 device;		/* PCI domain << 16 | bus << 8 | devfn */
	__u32 flags;
	/*
	 * How long after it was told a mapped importer unmaps, on a work queue; at most
	 * IMPORTER_PATIENCE_MS. IMPORTER_RELEASE cuts it short. 0: within the callback.
	 */
	__u32 delay_ms;
};

/* importer_entry.flags; the entry's dma_flags, where the kernel has them, follow from bit 8 on */
#define IMPORTER_ENTRY_PAGE	(1u << 0)	/* has a struct page */
#define IMPORTER_ENTRY_LAST	(1u << 1)

struct importer_entry {
	__u64 address;		/* sg_dma_address, sg_dma_len */
	__u64 length;
	__u32 cpu_offset;	/* offset and length of the page side */
	__u32 cpu_length;
	__u32 flags;
	__u32 reserved;
};

struct importer_table {
	__u64 entries;		/* pointer to room for this many */
	__u32 room;
	__u32 nents;
	__u32 orig_nents;
	__u32 reserved;
};

enum importer_event_kind {
	IMPORTER_NOTIFIED = 1,	/* the callback ran; result: 1 if there was a mapping */
	IMPORTER_MAPPED,	/* result: 0 or -errno */
	IMPORTER_UNMAPPED,
};

struct importer_event {
	__u64 time_ns;		/* CLOCK_MONOTONIC */
	__u32 kind;
	__s32 result;
	__u32 task;		/* thread id */
	__u32 reserved;
};

struct importer_log {
	__u64 events;		/* pointer to room for this many; only the first 256 are kept */
	__u32 room;
	__u32 happened;		/* events, kept or not */
	__u32 notified;		/* callbacks */
	__u32 mapped;
};

enum importer_edu_op {
	IMPORTER_EDU_LOAD,	/* data to edu's buffer */
	IMPORTER_EDU_STORE,	/* edu's buffer to data */
	IMPORTER_EDU_WRITE,	/* edu's buffer to a DMA address */
	IMPORTER_EDU_READ,	/* a DMA address to edu's buffer */
};

/* QEMU has 4096, and 7.2 aborts on a DMA that touches the last byte. */
#define IMPORTER_EDU_ROOM	4088u

/* One DMA of an edu bound to our driver, 100 ms of QEMU's virtual time. */
struct importer_edu {
	__u32 device;
	__u32 op;
	__u32 offset;		/* in edu's buffer */
	__u32 length;
	__u64 data;		/* LOAD, STORE: pointer; WRITE, READ: DMA address */
};

#define IMPORTER_ATTACH		_IOW('V', 0, struct importer_attach)
#define IMPORTER_DETACH		_IO('V', 1)
#define IMPORTER_MAP		_IO('V', 2)	/* argument: enum dma_data_direction */
#define IMPORTER_UNMAP		_IO('V', 3)
#define IMPORTER_PIN		_IO('V', 4)
#define IMPORTER_UNPIN		_IO('V', 5)
#define IMPORTER_RELEASE	_IO('V', 6)	/* what waits for delay_ms happens now */
#define IMPORTER_TABLE		_IOWR('V', 7, struct importer_table)
#define IMPORTER_LOG		_IOWR('V', 8, struct importer_log)
#define IMPORTER_FENCE		_IO('V', 9)	/* adds one; argument: enum dma_resv_usage */
#define IMPORTER_SIGNAL		_IO('V', 10)	/* it, before IMPORTER_PATIENCE_MS are over */
#define IMPORTER_EDU		_IOW('V', 11, struct importer_edu)

#endif
