// SPDX-License-Identifier: GPL-2.0-only
/* An unsignalled fence on the buffer, as from an importer that cannot stop its DMA at once. */
#include <linux/dma-resv.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "importer.h"

struct importer_fence {
	struct dma_fence base;
	spinlock_t lock;	/* of base */
};

static const char *fence_name(struct dma_fence *fence)
{
	return IMPORTER_NAME;
}

/* The buffer may keep the fence after the last file is closed, so a fence holds the module. */
static void fence_release(struct dma_fence *fence)
{
	dma_fence_free(fence);	/* kfree_rcu() of the importer_fence, since base comes first */
	module_put(THIS_MODULE);
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_name,
	.get_timeline_name = fence_name,
	.release = fence_release,
};

static struct dma_fence *fence_create(void)
{
	struct importer_fence *fence = kzalloc(sizeof(*fence), GFP_KERNEL);

	if (!fence)
		return NULL;
	__module_get(THIS_MODULE);
	spin_lock_init(&fence->lock);
	dma_fence_init(&fence->base, &fence_ops, &fence->lock, dma_fence_context_alloc(1), 1);
	return &fence->base;
}

/**
 * importer_fence_add - put an unsignalled fence on the buffer
 * @imp: the importer; the caller holds its lock
 * @usage: enum dma_resv_usage
 *
 * The fence is signalled after IMPORTER_MAX_DELAY_MS at the latest.
 *
 * Return: 0, EBADFD if it is not attached, EBUSY if it has a fence, EINVAL,
 * ENOMEM or ERESTARTSYS.
 */
int importer_fence_add(struct importer *imp, unsigned long usage)
{
	struct dma_fence *fence;
	struct dma_resv *resv;
	int ret;

	if (!imp->attach)
		return -EBADFD;
	if (READ_ONCE(imp->fence))
		return -EBUSY;
	if (usage > DMA_RESV_USAGE_BOOKKEEP)
		return -EINVAL;
	fence = fence_create();
	if (!fence)
		return -ENOMEM;

	resv = imp->attach->dmabuf->resv;
	ret = dma_resv_lock_interruptible(resv, NULL);
	if (ret)
		goto err_put;
	ret = dma_resv_reserve_fences(resv, 1);
	if (!ret)
		dma_resv_add_fence(resv, fence, usage);
	dma_resv_unlock(resv);
	if (ret)
		goto err_put;

	xchg(&imp->fence, fence);
	mod_delayed_work(importer_wq, &imp->signal, msecs_to_jiffies(IMPORTER_MAX_DELAY_MS));
	return 0;

err_put:
	dma_fence_signal(fence);
	dma_fence_put(fence);
	return ret;
}

/**
 * importer_fence_signal - signal the importer's fence, if it has one
 * @imp: the importer
 */
void importer_fence_signal(struct importer *imp)
{
	struct dma_fence *fence = xchg(&imp->fence, NULL);

	if (!fence)
		return;
	dma_fence_signal(fence);
	dma_fence_put(fence);
}

/**
 * importer_fence_timeout - signal the importer's fence when its time is over
 * @work: &struct importer.signal
 */
void importer_fence_timeout(struct work_struct *work)
{
	importer_fence_signal(container_of(work, struct importer, signal.work));
}
