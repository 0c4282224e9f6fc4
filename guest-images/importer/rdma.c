// SPDX-License-Identifier: GPL-2.0-only
/* A pinned, revocable buffer of the RDMA core's, as the driver of a real RNIC has one behind an MR. */
#include <linux/slab.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

#include "importer.h"

struct importer_rdma {
	struct ib_device device;	/* never registered: the core reads its dma_device, and no more */
	struct ib_umem_dmabuf *umem;
};

#ifdef HAVE_REVOCABLE_UMEM
static void revoked(void *priv)
{
	importer_note(priv, IMPORTER_NOTIFIED, 1);
}

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
	ib_umem_dmabuf_set_revoke_locked(rdma->umem, revoked, imp);
	ib_umem_dmabuf_revoke_unlock(rdma->umem);
	imp->rdma = rdma;
	return 0;
}

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
