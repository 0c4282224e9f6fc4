/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef IMPORTER_H
#define IMPORTER_H

#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "uapi.h"

#define IMPORTER_NAME		"vfio-harness-importer"
#define IMPORTER_EVENTS		256

/*
 * An open file.
 *
 * Locking: lock > importers_lock > dma_resv of the buffer > log_lock. A revoke
 * that waits for us holds dma_resv, so that whoever waits for dma_resv here is
 * stuck with it: what ends the wait (IMPORTER_SIGNAL, IMPORTER_RELEASE) and what
 * watches it (IMPORTER_LOG) take nothing but log_lock.
 */
struct importer {
	struct mutex lock;			/* attach, rdma, dev, pinned */
	struct list_head node;			/* while attached; importers_lock */
	struct dma_buf_attachment *attach;
	struct importer_rdma *rdma;		/* instead of attach, with IMPORTER_RDMA */
	struct device *dev;
	bool pinned;
	u32 flags;
	u32 delay_ms;

	/* dma_resv of the buffer */
	struct sg_table *sgt;
	enum dma_data_direction direction;
	bool due;				/* told, and not unmapped yet */
	bool closed;				/* no new mapping */

	struct delayed_work unmap;
	struct delayed_work signal;
	struct dma_fence *fence;		/* unsignalled; set under lock, taken by xchg() */

	spinlock_t log_lock;
	u32 happened;
	u32 notified;
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
int importer_table(struct importer *imp, struct importer_table *table);
int importer_log(struct importer *imp, struct importer_log *log);
void importer_note(struct importer *imp, u32 kind, int result);
void importer_device_lost(struct pci_dev *pdev, bool forever);

int importer_rdma_get(struct importer *imp, int fd, size_t size);
void importer_rdma_put(struct importer *imp);

int importer_fence_add(struct importer *imp, unsigned long usage);
void importer_fence_signal(struct importer *imp);
void importer_fence_timeout(struct work_struct *work);

int importer_edu(const struct importer_edu *req);

#endif
