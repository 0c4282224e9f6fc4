// SPDX-License-Identifier: GPL-2.0-only
/*
 * An access to an IO address space of iommufd (drivers/iommu/iommufd/device.c),
 * as the driver of an emulated vfio device has it: it pins and copies memory by
 * its IOVA, without DMA.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "importer.h"

#ifdef HAVE_IOMMUFD_ACCESS
#include <linux/iommufd.h>	/* since 6.2 */

/* Pages that were pinned by one call, and must be unpinned by one call. */
struct pin {
	struct list_head node;
	u64 iova;
	u64 length;
};

struct importer_access {
	struct importer *imp;
	struct iommufd_access *access;
	struct mutex lock;	/* protects @pins; taken before the locks of iommufd */
	struct list_head pins;
	u32 delay_ms;
};

static bool overlaps(const struct pin *pin, u64 iova, u64 last)
{
	return pin->iova <= last && iova <= pin->iova + pin->length - 1;
}

static bool is_pinned(struct importer_access *access, u64 iova, u64 last)
{
	struct pin *pin;
	bool found = false;

	mutex_lock(&access->lock);
	list_for_each_entry(pin, &access->pins, node)
		found |= overlaps(pin, iova, last);
	mutex_unlock(&access->lock);
	return found;
}

static void unpin(struct importer_access *access, struct pin *pin)
{
	iommufd_access_unpin_pages(access->access, pin->iova, pin->length);
	list_del(&pin->node);
	kfree(pin);
}

/*
 * The callback: iommufd waits in it, without a lock, until no page of the range
 * is pinned. When the access ends, the range is everything.
 */
static void access_unmap(void *data, unsigned long iova, unsigned long length)
{
	struct importer_access *access = data;
	struct importer *imp = access->imp;
	u64 last = iova + length - 1;
	struct pin *pin, *next;

	importer_log_event(imp, IMPORTER_NOTIFIED, is_pinned(access, iova, last));
	if (access->delay_ms)
		wait_for_completion_timeout(&imp->released, msecs_to_jiffies(access->delay_ms));

	mutex_lock(&access->lock);
	list_for_each_entry_safe(pin, next, &access->pins, node)
		if (overlaps(pin, iova, last))
			unpin(access, pin);
	mutex_unlock(&access->lock);
}

static const struct iommufd_access_ops access_ops = {
	.needs_pin_pages = 1,
	.unmap = access_unmap,
};

/**
 * importer_access_start - make an access to an IO address space
 * @imp: the importer; the caller holds its lock
 * @req: which address space, and how long a callback waits
 *
 * Return: 0, EBUSY if the file is in use, EINVAL, ENOMEM, EOPNOTSUPP, or
 * iommufd's errno.
 */
int importer_access_start(struct importer *imp, const struct importer_access_request *req)
{
	struct importer_access *access;
	struct iommufd_ctx *ictx;
	int ret;
	u32 id;

	if (req->delay_ms > IMPORTER_MAX_DELAY_MS || req->reserved)
		return -EINVAL;
	if (imp->attach || imp->rdma || imp->access)
		return -EBUSY;
	access = kzalloc(sizeof(*access), GFP_KERNEL);
	if (!access)
		return -ENOMEM;
	access->imp = imp;
	access->delay_ms = req->delay_ms;
	mutex_init(&access->lock);
	INIT_LIST_HEAD(&access->pins);
	reinit_completion(&imp->released);

	ictx = iommufd_ctx_from_fd(req->fd);
	if (IS_ERR(ictx)) {
		ret = PTR_ERR(ictx);
		goto err_free;
	}
	access->access = iommufd_access_create(ictx, &access_ops, access, &id);
	iommufd_ctx_put(ictx);	/* the access has a reference of its own */
	if (IS_ERR(access->access)) {
		ret = PTR_ERR(access->access);
		goto err_free;
	}
	ret = iommufd_access_attach(access->access, req->ioas);
	if (ret)
		goto err_destroy;
	imp->access = access;
	return 0;

err_destroy:
	iommufd_access_destroy(access->access);
err_free:
	mutex_destroy(&access->lock);
	kfree(access);
	return ret;
}

/**
 * importer_access_end - end the access, and unpin what it has pinned
 * @imp: the importer, which has an access; the caller holds its lock
 */
void importer_access_end(struct importer *imp)
{
	struct importer_access *access = imp->access;

	complete_all(&imp->released);
	iommufd_access_destroy(access->access);	/* runs the callback for everything */
	imp->access = NULL;
	WARN_ON(!list_empty(&access->pins));
	mutex_destroy(&access->lock);
	kfree(access);
}

static int copy_pages(struct page **pages, const struct importer_access_range *req)
{
	void __user *data = u64_to_user_ptr(req->data);
	u64 done;

	for (done = 0; done < req->length; done += PAGE_SIZE) {
		struct page *page = pages[done / PAGE_SIZE];

		/* A kernel that pins nothing leaves the array empty. */
		if (!page)
			return -ENODATA;
		if (copy_to_user(data + done, page_address(page),
				 min_t(u64, req->length - done, PAGE_SIZE)))
			return -EFAULT;
	}
	return 0;
}

/**
 * importer_access_pin - pin a range, and read it through its pages
 * @imp: the importer; the caller holds its lock
 * @req: the range; its data is written
 *
 * Return: 0, EBADFD without an access, EINVAL, ENOMEM, EFAULT, or iommufd's
 * errno.
 */
int importer_access_pin(struct importer *imp, const struct importer_access_range *req)
{
	struct importer_access *access = imp->access;
	struct page **pages;
	struct pin *pin;
	int ret;

	if (!access)
		return -EBADFD;
	if (!req->length || req->length > IMPORTER_ACCESS_MAX)
		return -EINVAL;
	pages = kcalloc(DIV_ROUND_UP(req->length, PAGE_SIZE) + 1, sizeof(*pages), GFP_KERNEL);
	pin = kzalloc(sizeof(*pin), GFP_KERNEL);
	if (!pages || !pin) {
		ret = -ENOMEM;
		goto err_free;
	}
	pin->iova = req->iova;
	pin->length = req->length;

	mutex_lock(&access->lock);
	ret = iommufd_access_pin_pages(access->access, req->iova, req->length, pages,
				       req->flags & IMPORTER_ACCESS_WRITE ?
				       IOMMUFD_ACCESS_RW_WRITE : IOMMUFD_ACCESS_RW_READ);
	if (ret) {
		mutex_unlock(&access->lock);
		goto err_free;
	}
	list_add(&pin->node, &access->pins);
	ret = copy_pages(pages, req);
	mutex_unlock(&access->lock);
	kfree(pages);
	return ret;

err_free:
	kfree(pin);
	kfree(pages);
	return ret;
}

/**
 * importer_access_unpin - undo one importer_access_pin() of the same range
 * @imp: the importer; the caller holds its lock
 * @req: the range
 *
 * Return: 0, or EBADFD if no call has pinned it.
 */
int importer_access_unpin(struct importer *imp, const struct importer_access_range *req)
{
	struct importer_access *access = imp->access;
	struct pin *pin;
	int ret = -EBADFD;

	if (!access)
		return -EBADFD;
	mutex_lock(&access->lock);
	list_for_each_entry(pin, &access->pins, node) {
		if (pin->iova == req->iova && pin->length == req->length) {
			unpin(access, pin);
			ret = 0;
			break;
		}
	}
	mutex_unlock(&access->lock);
	return ret;
}

/**
 * importer_access_rw - copy a range to or from user memory
 * @imp: the importer; the caller holds its lock
 * @req: the range; IMPORTER_ACCESS_WRITE copies its data there
 *
 * Return: 0, EBADFD without an access, EINVAL, ENOMEM, EFAULT, or iommufd's
 * errno.
 */
int importer_access_rw(struct importer *imp, const struct importer_access_range *req)
{
	void __user *data = u64_to_user_ptr(req->data);
	bool write = req->flags & IMPORTER_ACCESS_WRITE;
	void *buffer;
	int ret;

	if (!imp->access)
		return -EBADFD;
	if (!req->length || req->length > IMPORTER_ACCESS_MAX)
		return -EINVAL;
	buffer = write ? memdup_user(data, req->length) : kzalloc(req->length, GFP_KERNEL);
	if (IS_ERR_OR_NULL(buffer))
		return buffer ? PTR_ERR(buffer) : -ENOMEM;

	ret = iommufd_access_rw(imp->access->access, req->iova, buffer, req->length,
				write ? IOMMUFD_ACCESS_RW_WRITE : IOMMUFD_ACCESS_RW_READ);
	if (!ret && !write && copy_to_user(data, buffer, req->length))
		ret = -EFAULT;
	kfree(buffer);
	return ret;
}

/* MODULE_IMPORT_NS() takes a string only since 6.13. */
MODULE_INFO(import_ns, "IOMMUFD");
#else
int importer_access_start(struct importer *imp, const struct importer_access_request *req)
{
	return -EOPNOTSUPP;
}

void importer_access_end(struct importer *imp)
{
}

int importer_access_pin(struct importer *imp, const struct importer_access_range *req)
{
	return -EBADFD;
}

int importer_access_unpin(struct importer *imp, const struct importer_access_range *req)
{
	return -EBADFD;
}

int importer_access_rw(struct importer *imp, const struct importer_access_range *req)
{
	return -EBADFD;
}
#endif
