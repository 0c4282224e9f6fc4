// SPDX-License-Identifier: GPL-2.0-only
/* Attachments: attach, map, pin, and the callback that a revoke runs. */
#include <linux/dma-mapping.h>
#include <linux/dma-resv.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "importer.h"

#define MAX_ENTRIES	4096

static LIST_HEAD(importers);
static DEFINE_MUTEX(importers_lock);

/**
 * importer_log_event - add an event to the log
 * @imp: the importer
 * @kind: enum importer_event_kind
 * @result: the event's result
 */
void importer_log_event(struct importer *imp, u32 kind, int result)
{
	struct importer_event event = {
		.time_ns = ktime_get_ns(),
		.kind = kind,
		.result = result,
		.task = task_pid_nr(current),
	};

	spin_lock(&imp->log_lock);
	if (imp->event_count < IMPORTER_EVENTS)
		imp->events[imp->event_count] = event;
	imp->event_count++;
	if (kind == IMPORTER_NOTIFIED)
		WRITE_ONCE(imp->notified, imp->notified + 1);
	spin_unlock(&imp->log_lock);
	wake_up_all(&imp->logged);
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
	importer_log_event(imp, IMPORTER_MAPPED, PTR_ERR_OR_ZERO(sgt));
	return PTR_ERR_OR_ZERO(sgt);
}

static void unmap_locked(struct importer *imp, struct dma_buf_attachment *attach)
{
	struct sg_table *sgt = imp->sgt;

	if (!sgt)
		return;
	WRITE_ONCE(imp->sgt, NULL);
	imp->unmap_due = false;
	importer_log_event(imp, IMPORTER_UNMAPPED, 0);
	dma_buf_unmap_attachment(attach, sgt, imp->direction);
}

static void unmap_later(struct work_struct *work)
{
	struct importer *imp = container_of(work, struct importer, unmap.work);
	struct dma_resv *resv = imp->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	if (imp->unmap_due)
		unmap_locked(imp, imp->attach);
	dma_resv_unlock(resv);
}

/*
 * The callback. It may run before importer_attach() returns, and so before
 * imp->attach is set.
 */
static void invalidate(struct dma_buf_attachment *attach)
{
	struct importer *imp = attach->importer_priv;

	importer_log_event(imp, IMPORTER_NOTIFIED, !!imp->sgt);
	if (imp->sgt && imp->delay_ms) {
		imp->unmap_due = true;
		mod_delayed_work(importer_wq, &imp->unmap, msecs_to_jiffies(imp->delay_ms));
		return;
	}
	unmap_locked(imp, attach);
	if (imp->flags & IMPORTER_REMAP && READ_ONCE(imp->attach))
		map_locked(imp, attach);
}

/**
 * importer_init - initialise a zeroed importer
 * @imp: the importer
 */
void importer_init(struct importer *imp)
{
	mutex_init(&imp->lock);
	spin_lock_init(&imp->log_lock);
	init_waitqueue_head(&imp->logged);
	INIT_LIST_HEAD(&imp->node);
	init_completion(&imp->released);
	INIT_DELAYED_WORK(&imp->unmap, unmap_later);
	INIT_DELAYED_WORK(&imp->signal, importer_fence_timeout);
}

static struct dma_buf_attachment *attach_to(struct importer *imp, struct dma_buf *dmabuf)
{
	if (imp->flags & IMPORTER_STATIC)
		return dma_buf_attach(dmabuf, imp->dev);

	imp->ops.allow_peer2peer = imp->flags & IMPORTER_PEER2PEER;
	imp->ops.invalidate_mappings = imp->flags & IMPORTER_CALLBACK ? invalidate : NULL;
	return dma_buf_dynamic_attach(dmabuf, imp->dev, &imp->ops, imp);
}

static struct device *get_device_for(u32 flags, u32 device)
{
	struct pci_dev *pdev;

	if (flags & IMPORTER_NOT_PCI)
		return get_device(&importer_not_pci->dev);
	pdev = importer_get_device(device);
	return pdev ? &pdev->dev : NULL;
}

/**
 * importer_attach - attach a device to a dma-buf
 * @imp: the importer; the caller holds its lock
 * @req: which device, which buffer, and how
 *
 * Return: 0, EBUSY if it is attached, EINVAL, ENXIO, or the dma-buf core's errno.
 */
int importer_attach(struct importer *imp, const struct importer_attach *req)
{
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	int ret;

	if (req->flags & ~IMPORTER_FLAGS ||
	    (req->flags & IMPORTER_STATIC && req->flags != IMPORTER_STATIC) ||
	    req->delay_ms > IMPORTER_MAX_DELAY_MS)
		return -EINVAL;
	if (imp->attach || imp->rdma || imp->access)
		return -EBUSY;

	imp->flags = req->flags;
	imp->delay_ms = req->delay_ms;
	imp->direction = DMA_BIDIRECTIONAL;
	imp->closed = false;
	imp->dev = get_device_for(req->flags, req->device);
	if (!imp->dev)
		return -ENXIO;
	/* These devices have no limit. The default is 64 KiB, which DMA-API debugging checks. */
	if (imp->dev->dma_parms)
		dma_set_max_seg_size(imp->dev, UINT_MAX);

	dmabuf = dma_buf_get(req->fd);
	if (IS_ERR(dmabuf)) {
		ret = PTR_ERR(dmabuf);
		goto err_device;
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

/**
 * importer_umem - let the RDMA core import part of a dma-buf
 * @imp: the importer; the caller holds its lock
 * @req: which device, which part, and how
 *
 * Return: 0, EBUSY if it is attached, EINVAL, ENXIO, ENOMEM, EOPNOTSUPP, or the
 * RDMA core's errno.
 */
int importer_umem(struct importer *imp, const struct importer_umem *req)
{
	int ret;

	if (req->flags & ~IMPORTER_NOT_PCI || req->reserved)
		return -EINVAL;
	if (imp->attach || imp->rdma || imp->access)
		return -EBUSY;

	imp->dev = get_device_for(req->flags, req->device);
	if (!imp->dev)
		return -ENXIO;
	ret = importer_rdma_get(imp, req);
	if (ret) {
		put_device(imp->dev);
		imp->dev = NULL;
	}
	return ret;
}

/* Unmap. With @close_it, only a new importer_attach() allows mappings again. */
static void force_unmap(struct importer *imp, bool close_it)
{
	struct dma_resv *resv = imp->attach->dmabuf->resv;

	dma_resv_lock(resv, NULL);
	if (close_it)
		imp->closed = true;
	unmap_locked(imp, imp->attach);
	dma_resv_unlock(resv);
}

/**
 * importer_detach - unmap and unpin as needed, then detach
 * @imp: the importer; the caller holds its lock
 *
 * Return: 0, or EBADFD if it is not attached.
 */
int importer_detach(struct importer *imp)
{
	struct dma_buf_attachment *attach = imp->attach;
	struct dma_buf *dmabuf;

	if (imp->access) {
		importer_access_end(imp);
		return 0;
	}
	if (imp->rdma) {
		importer_rdma_put(imp);
		goto out;
	}
	if (!attach)
		return -EBADFD;

	mutex_lock(&importers_lock);
	list_del_init(&imp->node);
	mutex_unlock(&importers_lock);

	force_unmap(imp, true);
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

#ifdef HAVE_UNLOCKED_MAP
/*
 * A revoke between the map and dma_resv_lock() finds no mapping to undo, and
 * waits for the unmap here.
 */
static int map_unlocked(struct importer *imp, struct dma_buf_attachment *attach,
			enum dma_data_direction direction)
{
	u32 notified = READ_ONCE(imp->notified);
	struct sg_table *sgt;
	int ret = 0;

	sgt = dma_buf_map_attachment_unlocked(attach, direction);
	importer_log_event(imp, IMPORTER_MAPPED, PTR_ERR_OR_ZERO(sgt));
	if (IS_ERR(sgt))
		return PTR_ERR(sgt);

	dma_resv_lock(attach->dmabuf->resv, NULL);
	if (imp->sgt || imp->closed || imp->notified != notified) {
		ret = imp->sgt ? -EBUSY : -ENODEV;
	} else {
		imp->direction = direction;
		WRITE_ONCE(imp->sgt, sgt);
	}
	dma_resv_unlock(attach->dmabuf->resv);
	if (ret) {
		importer_log_event(imp, IMPORTER_UNMAPPED, 0);
		dma_buf_unmap_attachment_unlocked(attach, sgt, direction);
	}
	return ret;
}

/* The importer's own unmaps, in the callback and on a detach, find nothing to undo any more. */
static int unmap_unlocked(struct importer *imp, struct dma_buf_attachment *attach)
{
	struct sg_table *sgt;

	dma_resv_lock(attach->dmabuf->resv, NULL);
	sgt = imp->sgt;
	WRITE_ONCE(imp->sgt, NULL);
	imp->unmap_due = false;
	dma_resv_unlock(attach->dmabuf->resv);
	if (!sgt)
		return -EBADFD;
	importer_log_event(imp, IMPORTER_UNMAPPED, 0);
	dma_buf_unmap_attachment_unlocked(attach, sgt, imp->direction);
	return 0;
}
#else
static int map_unlocked(struct importer *imp, struct dma_buf_attachment *attach,
			enum dma_data_direction direction)
{
	return -EOPNOTSUPP;
}

static int unmap_unlocked(struct importer *imp, struct dma_buf_attachment *attach)
{
	return -EOPNOTSUPP;
}
#endif

/**
 * importer_map - dma_buf_map_attachment(), or ib_umem_dmabuf_map_pages()
 * @imp: the importer; the caller holds its lock
 * @direction: enum dma_data_direction
 *
 * Return: 0, EBADFD if it is not attached, EBUSY if it is mapped, ENXIO if its
 * device is gone, EINVAL, ERESTARTSYS, or the errno of the exporter or of the
 * RDMA core.
 */
int importer_map(struct importer *imp, unsigned long direction)
{
	struct dma_buf_attachment *attach = imp->attach;
	int ret;

	if (direction > DMA_FROM_DEVICE)
		return -EINVAL;
	if (imp->rdma)
		return importer_rdma_map(imp, true);
	if (!attach)
		return -EBADFD;
	if (imp->flags & IMPORTER_UNLOCKED)
		return map_unlocked(imp, attach, direction);

	ret = dma_resv_lock_interruptible(attach->dmabuf->resv, NULL);
	if (ret)
		return ret;
	if (!imp->sgt)
		imp->direction = direction;
	ret = map_locked(imp, attach);
	dma_resv_unlock(attach->dmabuf->resv);
	return ret;
}

/**
 * importer_unmap - dma_buf_unmap_attachment(), or ib_umem_dmabuf_unmap_pages()
 * @imp: the importer; the caller holds its lock
 *
 * Return: 0, EBADFD if it is not mapped, or ERESTARTSYS.
 */
int importer_unmap(struct importer *imp)
{
	struct dma_buf_attachment *attach = imp->attach;
	int ret;

	if (imp->rdma)
		return importer_rdma_map(imp, false);
	if (!attach)
		return -EBADFD;
	if (imp->flags & IMPORTER_UNLOCKED)
		return unmap_unlocked(imp, attach);

	ret = dma_resv_lock_interruptible(attach->dmabuf->resv, NULL);
	if (ret)
		return ret;
	if (!imp->sgt)
		ret = -EBADFD;
	unmap_locked(imp, attach);
	dma_resv_unlock(attach->dmabuf->resv);
	return ret;
}

/**
 * importer_pin - dma_buf_pin() or dma_buf_unpin()
 * @imp: the importer; the caller holds its lock
 * @pin: pin the buffer, or unpin it
 *
 * Return: 0, EBADFD if that does not fit its state, or the exporter's errno.
 */
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

static struct importer_sg_entry describe(struct scatterlist *sg)
{
	struct importer_sg_entry entry = {
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

/**
 * importer_table - copy the mapping's SG table to user space
 * @imp: the importer; the caller holds its lock
 * @table: the argument of IMPORTER_TABLE
 *
 * The copy waits until dma_resv is released, since a page fault may need it.
 *
 * Return: 0, EBADFD without a mapping, EINVAL, ENOMEM, EFAULT or ERESTARTSYS.
 */
int importer_table(struct importer *imp, struct importer_sg_table *table)
{
	struct importer_sg_entry *entries;
	struct scatterlist *sg;
	struct dma_resv *resv;
	struct sg_table *sgt;
	u32 count = 0;
	int ret, i;

	if (!imp->attach && !imp->rdma)
		return -EBADFD;
	resv = imp->rdma ? importer_rdma_resv(imp) : imp->attach->dmabuf->resv;
	if (table->capacity > MAX_ENTRIES)
		return -EINVAL;
	entries = kvcalloc(table->capacity + 1, sizeof(*entries), GFP_KERNEL);
	if (!entries)
		return -ENOMEM;

	ret = dma_resv_lock_interruptible(resv, NULL);
	if (ret)
		goto out;
	sgt = imp->rdma ? importer_rdma_sgt(imp) : imp->sgt;
	if (sgt) {
		table->nents = sgt->nents;
		table->orig_nents = sgt->orig_nents;
		for_each_sgtable_dma_sg(sgt, sg, i) {
			if (count < table->capacity)
				entries[count++] = describe(sg);
		}
	} else {
		ret = -EBADFD;
	}
	dma_resv_unlock(resv);

	if (!ret &&
	    copy_to_user(u64_to_user_ptr(table->entries), entries, count * sizeof(*entries)))
		ret = -EFAULT;
out:
	kvfree(entries);
	return ret;
}

/**
 * importer_log - copy the log to user space
 * @imp: the importer
 * @log: the argument of IMPORTER_LOG
 *
 * Events in the log never change, so only their number is read under the lock.
 *
 * Return: 0 or EFAULT.
 */
int importer_log(struct importer *imp, struct importer_log *log)
{
	u32 count;

	spin_lock(&imp->log_lock);
	log->event_count = imp->event_count;
	log->notified = imp->notified;
	spin_unlock(&imp->log_lock);

	log->mapped = !!READ_ONCE(imp->sgt);
	count = min3(log->capacity, log->event_count, (u32)IMPORTER_EVENTS);
	if (copy_to_user(u64_to_user_ptr(log->events), imp->events, count * sizeof(*imp->events)))
		return -EFAULT;
	return 0;
}

/**
 * importer_wait - wait for the callback
 * @imp: the importer
 * @wait: the argument of IMPORTER_WAIT
 *
 * Return: 1 once the callback has run often enough, 0 at the time limit, or
 * ERESTARTSYS.
 */
int importer_wait(struct importer *imp, const struct importer_wait *wait)
{
	long left = wait_event_interruptible_timeout(imp->logged,
						     READ_ONCE(imp->notified) >= wait->notified,
						     msecs_to_jiffies(wait->timeout_ms));

	return left < 0 ? left : !!left;
}

/**
 * importer_device_lost - unmap what a device has mapped
 * @pdev: the device, which loses its driver or is removed
 * @removed: the device is removed, so it must not map again
 *
 * A mapping must outlive neither the device's IOMMU group nor its driver.
 */
void importer_device_lost(struct pci_dev *pdev, bool removed)
{
	struct importer *imp;

	mutex_lock(&importers_lock);
	list_for_each_entry(imp, &importers, node) {
		if (imp->dev == &pdev->dev)
			force_unmap(imp, removed);
	}
	mutex_unlock(&importers_lock);
}
