// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pinned, revocable buffer of the RDMA core, as the driver of a hardware RNIC
 * has behind an MR.
 */
#include <linux/slab.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

#include "importer.h"

struct importer_rdma {
	struct ib_device device;	/* never registered: the core reads only its dma_device */
	struct ib_umem_dmabuf *umem;
};

#ifdef HAVE_REVOCABLE_UMEM
static void revoke(void *priv)
{
	importer_log_event(priv, IMPORTER_NOTIFIED, 1);
}

/**
 * importer_rdma_get - let the RDMA core pin and map a buffer
 * @imp: the importer; the caller holds its lock
 * @fd: the dma-buf
 * @size: its size in bytes
 *
 * The RDMA core's revoke callback is logged as IMPORTER_NOTIFIED.
 *
 * Return: 0, ENOMEM, the RDMA core's errno, or EOPNOTSUPP if the kernel has no
 * revocable pinned buffers.
 */
int importer_rdma_get(struct importer *imp, int fd, size_t size)
{
	struct importer_rdma *rdma = kzalloc(sizeof(*rdma), GFP_KERNEL);
	int ret;

	if (!rdma)
		return -ENOMEM;
	rdma->device.dma_device = imp->dev;
	rdma->umem = ib_umem_dmabuf_get_pinned_revocable_and_lock(&rdma->device, 0, size, fd,
								  IB_ACCESS_LOCAL_WRITE);
	if (IS_ERR(rdma->umem)) {
		ret = PTR_ERR(rdma->umem);
		kfree(rdma);
		return ret;
	}
	ib_umem_dmabuf_set_revoke_locked(rdma->umem, revoke, imp);
	ib_umem_dmabuf_revoke_unlock(rdma->umem);
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
#else
int importer_rdma_get(struct importer *imp, int fd, size_t size)
{
	return -EOPNOTSUPP;
}

void importer_rdma_put(struct importer *imp)
{
}
#endif
