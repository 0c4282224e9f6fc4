// SPDX-License-Identifier: GPL-2.0-only
/* An attachment: how it is made, and what it does when it is told to let go. */
#include <linux/dma-resv.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "importer.h"

#define MAX_ENTRIES	4096

static LIST_HEAD(importers);
static DEFINE_MUTEX(importers_lock);

void importer_note(struct importer *imp, u32 kind, int result)
{
	struct importer_event event = {
		.time_ns = ktime_get_ns(),
		.kind = kind,
		.result = result,
		.task = task_pid_nr(current),
	};

	spin_lock(&imp->log_lock);
	if (imp->happened < IMPORTER_EVENTS)
		imp->events[imp->happened] = event;
	imp->happened++;
	if (kind == IMPORTER_NOTIFIED)
		imp->notified++;
	spin_unlock(&imp->log_lock);
}

static int map_locked(struct importer *imp, struct dma_buf_attachment *attach)
{
	struct sg_table *sgt;

	if (imp->sgt)
		return -EBUSY;
	if (imp->closed)
		return -ENXIO;

	sgt = dma_buf_map_attachment(attach, imp->direction);
	if (!IS_ERR(sgt))
		WRITE_ONCE(imp->sgt, sgt);
	importer_note(imp, IMPORTER_MAPPED, PTR_ERR_OR_ZERO(sgt));
	return PTR_ERR_OR_ZERO(sgt);
}

static void unmap_locked(struct importer *imp, struct dma_buf_attachment *attach)
{
	struct sg_table *sgt = imp->sgt;

	if (!sgt)
		return;
	WRITE_ONCE(imp->sgt, NULL);
	imp->due = false;
	importer_note(imp, IMPORTER_UNMAPPED, 0);
	dma_buf_unmap_attachment(attach, sgt, imp->direction);
}

static void unmap_later(struct work_struct *work)
{
	struct importer *imp = container_of(work, struct importer, unmap.work);
	struct dma_resv *resv = imp->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	if (imp->due)
		unmap_locked(imp, imp->attach);
	dma_resv_unlock(resv);
}

/* May run before importer_attach() has returned, and so before imp->attach is set. */
static void invalidated(struct dma_buf_attachment *attach)
{
	struct importer *imp = attach->importer_priv;

	importer_note(imp, IMPORTER_NOTIFIED, !!imp->sgt);
	if (imp->sgt && imp->delay_ms) {
		imp->due = true;
		mod_delayed_work(importer_wq, &imp->unmap, msecs_to_jiffies(imp->delay_ms));
		return;
	}
	unmap_locked(imp, attach);
	if (imp->flags & IMPORTER_REMAP && READ_ONCE(imp->attach))
		map_locked(imp, attach);
}

/* Indexed by IMPORTER_PEER2PEER and IMPORTER_CALLBACK. */
static const struct dma_buf_attach_ops attach_ops[] = {
	{ },
	{ .allow_peer2peer = true },
	{ .invalidate_mappings = invalidated },
	{ .allow_peer2peer = true, .invalidate_mappings = invalidated },
};

void importer_init(struct importer *imp)
{
	mutex_init(&imp->lock);
	spin_lock_init(&imp->log_lock);
	INIT_LIST_HEAD(&imp->node);
	INIT_DELAYED_WORK(&imp->unmap, unmap_later);
	INIT_DELAYED_WORK(&imp->signal, importer_fence_timeout);
}

static struct dma_buf_attachment *attach_to(struct importer *imp, struct dma_buf *dmabuf)
{
	if (imp->flags & IMPORTER_STATIC)
		return dma_buf_attach(dmabuf, imp->dev);
	return dma_buf_dynamic_attach(dmabuf, imp->dev,
				      &attach_ops[(imp->flags / IMPORTER_PEER2PEER) & 3], imp);
}

static struct device *get_device_for(const struct importer_attach *req)
{
	struct pci_dev *pdev;

	if (req->flags & IMPORTER_NOT_PCI)
		return get_device(&importer_not_pci->dev);
	pdev = importer_get_device(req->device);
	return pdev ? &pdev->dev : NULL;
}

int importer_attach(struct importer *imp, const struct importer_attach *req)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	int ret;

	if (req->flags & ~IMPORTER_FLAGS ||
	    (req->flags & IMPORTER_STATIC && req->flags != IMPORTER_STATIC) ||
	    (req->flags & IMPORTER_RDMA && req->flags != IMPORTER_RDMA) ||
	    req->delay_ms > IMPORTER_PATIENCE_MS)
		return -EINVAL;
	if (imp->attach || imp->rdma)
		return -EBUSY;

	imp->flags = req->flags;
	imp->delay_ms = req->delay_ms;
	imp->direction = DMA_BIDIRECTIONAL;
	imp->closed = false;
	imp->dev = get_device_for(req);
	if (!imp->dev)
		return -ENXIO;

	dmabuf = dma_buf_get(req->fd);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_device;
	}

	if (imp->flags & IMPORTER_RDMA) {
		ret = importer_rdma_get(imp, req->fd, dmabuf->size);
		if (ret)
			goto err_dmabuf;
		dma_buf_put(dmabuf);
		return 0;
	}

	attach = attach_to(imp, dmabuf);
	if (IS_ERR(attach)) {
		ret = PTR_ERR(attach);
		goto err_dmabuf;
	}

	mutex_lock(&importers_lock);
	WRITE_ONCE(imp->attach, attach);
	list_add_tail(&imp->node, &importers);
	mutex_unlock(&importers_lock);
	return 0;

err_dmabuf:
	dma_buf_put(dmabuf);
err_device:
	put_device(imp->dev);
	imp->dev = NULL;
	return ret;
}

/* Takes the mapping away; nothing but importer_attach() brings it back after @forever. */
static void let_go(struct importer *imp, bool forever)
{
	struct dma_resv *resv = imp->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	imp->closed |= forever;
	unmap_locked(imp, imp->attach);
	dma_resv_unlock(resv);
}

int importer_detach(struct importer *imp)
{
	struct dma_buf_attachment *attach = imp->attach;
	struct dma_buf *dmabuf;

	if (imp->rdma) {
		importer_rdma_put(imp);
		goto out;
	}
	if (!attach)
		return -EBADFD;

	mutex_lock(&importers_lock);
	list_del_init(&imp->node);
	mutex_unlock(&importers_lock);

	let_go(imp, true);
	cancel_delayed_work_sync(&imp->unmap);
	if (imp->pinned)
		importer_pin(imp, false);

	dmabuf = attach->dmabuf;
	imp->attach = NULL;
	dma_buf_detach(dmabuf, attach);
	dma_buf_put(dmabuf);
out:
	put_device(imp->dev);
	imp->dev = NULL;
	return 0;
}

int importer_map(struct importer *imp, unsigned long direction)
{
	struct dma_buf_attachment *attach = imp->attach;
	int ret;

	if (!attach)
		return -EBADFD;
	if (direction > DMA_FROM_DEVICE)
		return -EINVAL;

	ret = dma_resv_lock_interruptible(attach->dmabuf->resv, NULL);
	if (ret)
		return ret;
	if (!imp->sgt)
		imp->direction = direction;
	ret = map_locked(imp, attach);
	dma_resv_unlock(attach->dmabuf->resv);
	return ret;
}

int importer_unmap(struct importer *imp)
{
	struct dma_buf_attachment *attach = imp->attach;
	int ret;

	if (!attach)
		return -EBADFD;

	ret = dma_resv_lock_interruptible(attach->dmabuf->resv, NULL);
	if (ret)
		return ret;
	if (!imp->sgt)
		ret = -EBADFD;
	unmap_locked(imp, attach);
	dma_resv_unlock(attach->dmabuf->resv);
	return ret;
}

int importer_pin(struct importer *imp, bool pin)
{
	struct dma_buf_attachment *attach = imp->attach;
	int ret = 0;

	if (!attach || imp->flags & IMPORTER_STATIC || imp->pinned == pin)
		return -EBADFD;

	dma_resv_lock(attach->dmabuf->resv, NULL);
	if (pin)
		ret = dma_buf_pin(attach);
	else
		dma_buf_unpin(attach);
	dma_resv_unlock(attach->dmabuf->resv);
	if (!ret)
		imp->pinned = pin;
	return ret;
}

static struct importer_entry describe(struct scatterlist *sg)
{
	struct importer_entry entry = {
		.address = sg_dma_address(sg),
		.length = sg_dma_len(sg),
		.cpu_offset = sg->offset,
		.cpu_length = sg->length,
	};

	if (sg->page_link & ~SG_PAGE_LINK_MASK)
		entry.flags |= IMPORTER_ENTRY_PAGE;
	if (sg_is_last(sg))
		entry.flags |= IMPORTER_ENTRY_LAST;
#ifdef CONFIG_NEED_SG_DMA_FLAGS
	entry.flags |= sg->dma_flags << 8;
#endif
	return entry;
}

/* User memory is not to be touched under dma_resv: a page fault may need it. */
int importer_table(struct importer *imp, struct importer_table *table)
{
	struct dma_buf_attachment *attach = imp->attach;
	struct importer_entry *entries;
	struct scatterlist *sg;
	u32 count = 0;
	int ret, i;

	if (!attach)
		return -EBADFD;
	if (table->room > MAX_ENTRIES)
		return -EINVAL;
	entries = kvcalloc(table->room + 1, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	ret = dma_resv_lock_interruptible(attach->dmabuf->resv, NULL);
	if (ret)
		goto out;
	if (imp->sgt) {
		table->nents = imp->sgt->nents;
		table->orig_nents = imp->sgt->orig_nents;
		for_each_sgtable_dma_sg(imp->sgt, sg, i) {
			if (count < table->room)
				entries[count++] = describe(sg);
		}
	} else {
		ret = -EBADFD;
	}
	dma_resv_unlock(attach->dmabuf->resv);

	if (!ret &&
	    copy_to_user(u64_to_user_ptr(table->entries), entries, count * sizeof(*entries)))
		ret = -EFAULT;
out:
	kvfree(entries);
	return ret;
}

/* What is in the log stays as it is, so that only its length is read under the lock. */
int importer_log(struct importer *imp, struct importer_log *log)
{
	u32 count;

	spin_lock(&imp->log_lock);
	log->happened = imp->happened;
	log->notified = imp->notified;
	spin_unlock(&imp->log_lock);

	log->mapped = !!READ_ONCE(imp->sgt);
	count = min3(log->room, log->happened, (u32)IMPORTER_EVENTS);
	if (copy_to_user(u64_to_user_ptr(log->events), imp->events, count * sizeof(*imp->events)))
		return -EFAULT;
	return 0;
}

/* A mapping must not outlive its device's IOMMU group, nor its driver. */
void importer_device_lost(struct pci_dev *pdev, bool forever)
{
	struct importer *imp;

	mutex_lock(&importers_lock);
	list_for_each_entry(imp, &importers, node) {
		if (imp->dev == &pdev->dev)
			let_go(imp, forever);
	}
	mutex_unlock(&importers_lock);
}
