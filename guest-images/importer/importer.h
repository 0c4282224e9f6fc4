/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef IMPORTER_H
#define IMPORTER_H

#include <linux/completion.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "uapi.h"

#define IMPORTER_NAME		"vfio-harness-importer"

/**
 * struct importer - an open file
 * @lock: protects @attach, @rdma, @access, @dev, @pinned and @pause
 * @node: entry of the list of attached files; protected by importers_lock
 * @attach: the attachment, or NULL
 * @ops: the importer's operations, if it is dynamic
 * @rdma: the RDMA core's buffer, used in place of @attach after IMPORTER_UMEM
 * @access: the access to an IO address space, used in place of @attach after
 *	IMPORTER_ACCESS
 * @released: ends the wait of @access's callback
 * @pause: the pause that this file has armed, or NULL
 * @dev: the attached device, with a reference held
 * @pinned: whether this file pins the buffer
 * @flags: importer_attach.flags
 * @delay_ms: importer_attach.delay_ms
 * @sgt: the mapping, or NULL; protected by the buffer's dma_resv
 * @direction: direction of the mapping; protected by the buffer's dma_resv
 * @unmap_due: the callback ran and left the unmap to @unmap; protected by the
 *	buffer's dma_resv
 * @closed: refuse new mappings; protected by the buffer's dma_resv
 * @unmap: unmaps after @delay_ms
 * @signal: signals @fence after IMPORTER_MAX_DELAY_MS
 * @fence: the unsignalled fence, or NULL; set under @lock, taken by xchg()
 * @log_lock: protects the log
 * @event_count: number of events so far
 * @notified: number of callbacks so far; written under @log_lock
 * @logged: woken after each event
 * @events: the first events
 *
 * Lock order: @lock > importers_lock > dma_resv of the buffer > @log_lock.
 *
 * A revoke that waits for this importer holds dma_resv, so a thread here that
 * waits for dma_resv is stuck until the revoke returns. The ioctls that end the
 * revoke's wait (IMPORTER_SIGNAL, IMPORTER_RELEASE) or watch it (IMPORTER_LOG,
 * IMPORTER_WAIT) therefore take no lock but @log_lock.
 */
struct importer {
	struct mutex lock;	/* see above */
	struct list_head node;
	struct dma_buf_attachment *attach;
	struct dma_buf_attach_ops ops;
	struct importer_rdma *rdma;
	struct importer_access *access;
	struct completion released;
	struct importer_pause *pause;
	struct device *dev;
	bool pinned;
	u32 flags;
	u32 delay_ms;

	struct sg_table *sgt;
	enum dma_data_direction direction;
	bool unmap_due;
	bool closed;

	struct delayed_work unmap;
	struct delayed_work signal;
	struct dma_fence *fence;

	spinlock_t log_lock;	/* see above */
	u32 event_count;
	u32 notified;
	wait_queue_head_t logged;
	struct importer_event events[IMPORTER_EVENTS];
};

extern struct workqueue_struct *importer_wq;
extern struct pci_driver importer_edu_driver;
extern struct platform_device *importer_not_pci;

struct pci_dev *importer_get_device(u32 address);

void importer_init(struct importer *imp);
int importer_attach(struct importer *imp, const struct importer_attach *req);
int importer_detach(struct importer *imp);
int importer_map(struct importer *imp, unsigned long direction);
int importer_unmap(struct importer *imp);
int importer_pin(struct importer *imp, bool pin);
int importer_table(struct importer *imp, struct importer_sg_table *table);
int importer_log(struct importer *imp, struct importer_log *log);
int importer_wait(struct importer *imp, const struct importer_wait *wait);
void importer_log_event(struct importer *imp, u32 kind, int result);
void importer_device_lost(struct pci_dev *pdev, bool removed);

int importer_umem(struct importer *imp, const struct importer_umem *req);
int importer_rdma_get(struct importer *imp, const struct importer_umem *req);
void importer_rdma_put(struct importer *imp);
int importer_rdma_map(struct importer *imp, bool map);
int importer_rdma_revoke(struct importer *imp);
struct sg_table *importer_rdma_sgt(struct importer *imp);
struct dma_resv *importer_rdma_resv(struct importer *imp);

int importer_access_start(struct importer *imp, const struct importer_access_request *req);
void importer_access_end(struct importer *imp);
int importer_access_pin(struct importer *imp, const struct importer_access_range *req);
int importer_access_unpin(struct importer *imp, const struct importer_access_range *req);
int importer_access_rw(struct importer *imp, const struct importer_access_range *req);

int importer_fence_add(struct importer *imp, unsigned long usage);
void importer_fence_signal(struct importer *imp);
void importer_fence_timeout(struct work_struct *work);

void importer_counts_init(void);
void importer_counts_exit(void);
void importer_counts(struct importer_counts *counts);

int importer_pause_arm(struct importer *imp, const struct importer_pause_request *req);
int importer_pause_state(struct importer *imp);
int importer_pause_end(struct importer *imp);
void importer_pause_free(struct importer *imp);

int importer_edu(const struct importer_edu *req);

#endif
