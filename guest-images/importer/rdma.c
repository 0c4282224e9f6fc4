// SPDX-License-Identifier: GPL-2.0-only
/*
 * A buffer of the RDMA core (drivers/infiniband/core/umem_dmabuf.c), as the
 * driver of a hardware RNIC has behind an MR.
 */
#include <linux/dma-resv.h>
#include <linux/slab.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

#include "importer.h"

struct importer_rdma {
	struct ib_device device;	/* never registered: the core reads only its dma_device */
	struct ib_umem_dmabuf *umem;
};

#ifdef HAVE_REVOCABLE_UMEM
/* The core calls this with dma_resv held. */
static void revoke(void *priv)
{
	struct importer *imp = priv;

	importer_log_event(imp, IMPORTER_NOTIFIED, !!imp->rdma->umem->sgt);
}

/*
 * The callback of a dynamic umem. The core takes its private data as the umem.
 * It may run before importer_rdma_get() returns, and so before imp->rdma is set.
 */
static void invalidate(struct dma_buf_attachment *attach)
{
	struct ib_umem_dmabuf *umem = attach->importer_priv;
	struct importer *imp = READ_ONCE(umem->private);

	if (imp)
		importer_log_event(imp, IMPORTER_NOTIFIED, !!umem->sgt);
	ib_umem_dmabuf_unmap_pages(umem);
}

static const struct dma_buf_attach_ops dynamic_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = invalidate,
};

static struct ib_umem_dmabuf *umem_get(struct importer_rdma *rdma, struct importer *imp,
				       const struct importer_umem *req)
{
	struct ib_umem_dmabuf *umem;

	switch (req->kind) {
	case IMPORTER_UMEM_REVOCABLE:
		umem = ib_umem_dmabuf_get_pinned_revocable_and_lock(&rdma->device, req->offset,
								    req->length, req->fd,
								    req->access);
		if (IS_ERR(umem))
			return umem;
		rdma->umem = umem;
		imp->rdma = rdma;	/* the callback reads it, once dma_resv is unlocked */
		ib_umem_dmabuf_set_revoke_locked(umem, revoke, imp);
		ib_umem_dmabuf_revoke_unlock(umem);
		return umem;
	case IMPORTER_UMEM_PINNED:
		return ib_umem_dmabuf_get_pinned(&rdma->device, req->offset, req->length, req->fd,
						 req->access);
	case IMPORTER_UMEM_DYNAMIC:
		umem = ib_umem_dmabuf_get(&rdma->device, req->offset, req->length, req->fd,
					  req->access, &dynamic_ops);
		if (!IS_ERR(umem))
			WRITE_ONCE(umem->private, imp);
		return umem;
	default:
		return ERR_PTR(-EINVAL);
	}
}

/**
 * importer_rdma_get - let the RDMA core import part of a buffer
 * @imp: the importer, whose device is set; the caller holds its lock
 * @req: which part, and how
 *
 * The core's notification of a revoke is logged as IMPORTER_NOTIFIED.
 *
 * Return: 0, EINVAL, ENOMEM, the RDMA core's errno, or EOPNOTSUPP if the kernel
 * has no revocable pinned buffers.
 */
int importer_rdma_get(struct importer *imp, const struct importer_umem *req)
{
	struct importer_rdma *rdma = kzalloc(sizeof(*rdma), GFP_KERNEL);
	struct ib_umem_dmabuf *umem;

	if (!rdma)
		return -ENOMEM;
	rdma->device.dma_device = imp->dev;
	umem = umem_get(rdma, imp, req);
	if (IS_ERR(umem)) {
		kfree(rdma);
		return PTR_ERR(umem);
	}
	rdma->umem = umem;
	imp->rdma = rdma;
	return 0;
}

/**
 * importer_rdma_put - release the RDMA core's buffer
 * @imp: the importer; the caller holds its lock
 */
void importer_rdma_put(struct importer *imp)
{
	ib_umem_release(&imp->rdma->umem->umem);
	kfree(imp->rdma);
	imp->rdma = NULL;
}

/**
 * importer_rdma_map - ib_umem_dmabuf_map_pages() or ib_umem_dmabuf_unmap_pages()
 * @imp: the importer, which has a buffer of the RDMA core; the caller holds its lock
 * @map: map the pages, or unmap them
 *
 * Return: 0 or the RDMA core's errno.
 */
int importer_rdma_map(struct importer *imp, bool map)
{
	struct ib_umem_dmabuf *umem = imp->rdma->umem;
	int ret = 0;

	ib_umem_dmabuf_revoke_lock(umem);
	if (map)
		ret = ib_umem_dmabuf_map_pages(umem);
	else
		ib_umem_dmabuf_unmap_pages(umem);
	importer_log_event(imp, map ? IMPORTER_MAPPED : IMPORTER_UNMAPPED, ret);
	ib_umem_dmabuf_revoke_unlock(umem);
	return ret;
}

/**
 * importer_rdma_revoke - ib_umem_dmabuf_revoke(), as a driver calls it on its own
 * @imp: the importer; the caller holds its lock
 *
 * Return: 0, or EBADFD if it has no buffer of the RDMA core.
 */
int importer_rdma_revoke(struct importer *imp)
{
	if (!imp->rdma)
		return -EBADFD;
	ib_umem_dmabuf_revoke(imp->rdma->umem);
	return 0;
}

/**
 * importer_rdma_sgt - the part of the mapping that the RDMA core gives to a driver
 * @imp: the importer; the caller holds the buffer's dma_resv
 *
 * Return: the table, or NULL if nothing is mapped.
 */
struct sg_table *importer_rdma_sgt(struct importer *imp)
{
	struct ib_umem_dmabuf *umem = imp->rdma->umem;

	return umem->sgt ? &umem->umem.sgt_append.sgt : NULL;
}

/**
 * importer_rdma_resv - the dma_resv of the RDMA core's buffer
 * @imp: the importer; the caller holds its lock
 *
 * Return: the dma_resv.
 */
struct dma_resv *importer_rdma_resv(struct importer *imp)
{
	return imp->rdma->umem->attach->dmabuf->resv;
}
#else
int importer_rdma_get(struct importer *imp, const struct importer_umem *req)
{
	return -EOPNOTSUPP;
}

void importer_rdma_put(struct importer *imp)
{
}

int importer_rdma_map(struct importer *imp, bool map)
{
	return -EOPNOTSUPP;
}

int importer_rdma_revoke(struct importer *imp)
{
	return -EOPNOTSUPP;
}

struct sg_table *importer_rdma_sgt(struct importer *imp)
{
	return NULL;
}

struct dma_resv *importer_rdma_resv(struct importer *imp)
{
	return NULL;
}
#endif
