// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory regions over a dma-buf of I/O memory, such as a PCI BAR exported by
 * vfio-pci.
 *
 * rxe moves data with the CPU. It attaches and maps the buffer for the PCI
 * function below the netdev, as a NIC would, translates the DMA addresses back
 * to physical ones, and ioremaps those. No struct page is used on that path.
 *
 * The exporter may revoke the buffer at any time. A revoke is final for the MR:
 * it keeps its keys until deregistration, and each use of it fails.
 *
 * Locking, outermost first:
 *
 *   rtnl		held by the netdev notifier only
 *   rxe_dmabuf_mutex	the list of regions; while it is held, the netdev, and
 *			with it the importing device, cannot be unregistered
 *   dma_resv		of the buffer; protects the mapping
 *   rxe_dmabuf.lock	held for reading during a copy, for writing by a revoke
 *
 * The exporter calls invalidate_mappings() with dma_resv and its own locks held.
 * The packet path holds rxe_dmabuf.lock during one copy and takes no other lock
 * under it. So a revoke waits for copies in flight, but never for a packet.
 */

#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/ioport.h>
#include <linux/pci.h>
#include <linux/unaligned.h>

#include "rxe.h"
#include "rxe_loc.h"

MODULE_IMPORT_NS("DMA_BUF");

#ifndef kzalloc_obj /* up to 6.19 */
#define kzalloc_obj(obj) kzalloc(sizeof(obj), GFP_KERNEL)
#endif

/* MW_BIND and FLUSH have no meaning for I/O memory. */
#define RXE_DMABUF_ACCESS (IB_ACCESS_LOCAL_WRITE	| \
			   IB_ACCESS_REMOTE_READ	| \
			   IB_ACCESS_REMOTE_WRITE	| \
			   IB_ACCESS_REMOTE_ATOMIC	| \
			   IB_ACCESS_RELAXED_ORDERING)

/**
 * struct rxe_dmabuf_part - a physically contiguous part of the buffer
 * @list: entry of rxe_dmabuf.parts
 * @start: offset in the buffer
 * @len: in bytes
 * @phys: physical address
 * @va: its ioremap
 */
struct rxe_dmabuf_part {
	struct list_head		list;
	u64				start;
	size_t				len;
	phys_addr_t			phys;
	void __iomem			*va;
};

/**
 * struct rxe_dmabuf - a dma-buf behind an MR
 * @list: entry of rxe_dmabuf_list
 * @ndev: the netdev; compared only, never dereferenced
 * @dev: the importing PCI function, with a reference held
 * @attach: the attachment of @dev
 * @sgt: the mapping; NULL after a revoke
 * @offset: offset of the MR in the buffer
 * @lock: protects @parts
 * @parts: the mapped parts in ascending order; empty after a revoke
 */
struct rxe_dmabuf {
	struct list_head		list;
	struct net_device		*ndev;
	struct device			*dev;
	struct dma_buf_attachment	*attach;
	struct sg_table			*sgt;
	u64				offset;
	struct rw_semaphore		lock;
	struct list_head		parts;
};

static DEFINE_MUTEX(rxe_dmabuf_mutex);
static LIST_HEAD(rxe_dmabuf_list);

static void rxe_dmabuf_free_parts(struct list_head *parts)
{
	struct rxe_dmabuf_part *part, *next;

	list_for_each_entry_safe(part, next, parts, list) {
		if (part->va)
			iounmap(part->va);
		kfree(part);
	}
}

static void rxe_dmabuf_revoke(struct rxe_dmabuf *db)
{
	LIST_HEAD(parts);

	/* Revoked already, or not mapped yet */
	if (!db->sgt)
		return;

	dma_resv_assert_held(db->attach->dmabuf->resv);

	down_write(&db->lock);
	list_splice_init(&db->parts, &parts);
	up_write(&db->lock);

	rxe_dmabuf_free_parts(&parts);
	dma_buf_unmap_attachment(db->attach, db->sgt, DMA_BIDIRECTIONAL);
	dma_buf_unpin(db->attach);
	db->sgt = NULL;
}

static void rxe_dmabuf_invalidate_mappings(struct dma_buf_attachment *attach)
{
	rxe_dmabuf_revoke(attach->importer_priv);
}

static const struct dma_buf_attach_ops rxe_dmabuf_attach_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = rxe_dmabuf_invalidate_mappings,
};

/* The DMA address of MMIO is one of three:
 *  - an IOVA, if the IOMMU translates for @dev;
 *  - the physical address, if it does not: the direct mapping applies no offset
 *    to MMIO;
 *  - a PCI bus address, if both peers are below one switch.
 * The IOMMU driver allocates no IOVA from the windows of the host bridge, so an
 * address that does not translate is a bus address.
 */
static phys_addr_t rxe_dmabuf_phys(struct device *dev, dma_addr_t addr)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	struct pci_bus_region region = { .start = addr, .end = addr };
	struct resource res = { .flags = IORESOURCE_MEM };
	phys_addr_t phys;

	if (domain) {
		phys = iommu_iova_to_phys(domain, addr);
		if (phys)
			return phys;
	}

	pcibios_bus_to_resource(to_pci_dev(dev)->bus, &res, &region);
	return res.start;
}

static int rxe_dmabuf_add_page(struct rxe_dmabuf *db, u64 start,
			       phys_addr_t phys)
{
	struct rxe_dmabuf_part *part;

	if (!list_empty(&db->parts)) {
		part = list_last_entry(&db->parts, typeof(*part), list);
		if (part->phys + part->len == phys) {
			part->len += PAGE_SIZE;
			return 0;
		}
	}

	part = kzalloc_obj(*part);
	if (!part)
		return -ENOMEM;

	part->start = start;
	part->len = PAGE_SIZE;
	part->phys = phys;
	list_add_tail(&part->list, &db->parts);
	return 0;
}

static int rxe_dmabuf_ioremap(struct rxe_dmabuf_part *part)
{
	/* RAM is refused: rxe_reg_user_mr() is for RAM, and the DMA address
	 * may be that of a bounce buffer.
	 */
	if (region_intersects(part->phys, part->len, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT ||
	    region_intersects(part->phys, part->len, IORESOURCE_MEM,
			      IORES_DESC_NONE) != REGION_INTERSECTS)
		return -EOPNOTSUPP;

	part->va = ioremap(part->phys, part->len);
	return part->va ? 0 : -ENOMEM;
}

static int rxe_dmabuf_map_parts(struct rxe_dmabuf *db, u64 start, u64 end)
{
	struct rxe_dmabuf_part *part;
	struct scatterlist *sg;
	u64 sg_start = 0;
	u64 pos;
	int err;
	int i;

	for_each_sgtable_dma_sg(db->sgt, sg, i) {
		u64 sg_end = sg_start + sg_dma_len(sg);

		for (pos = max(start, sg_start); pos < min(end, sg_end);
		     pos += PAGE_SIZE) {
			dma_addr_t addr = sg_dma_address(sg) + pos - sg_start;

			err = rxe_dmabuf_add_page(db, pos,
						  rxe_dmabuf_phys(db->dev, addr));
			if (err)
				return err;
		}
		sg_start = sg_end;
	}

	list_for_each_entry(part, &db->parts, list) {
		err = rxe_dmabuf_ioremap(part);
		if (err)
			return err;
	}

	return 0;
}

static int rxe_dmabuf_map(struct rxe_dmabuf *db, u64 start, u64 end)
{
	struct dma_resv *resv = db->attach->dmabuf->resv;
	struct sg_table *sgt;
	long ret;
	int err;

	dma_resv_assert_held(resv);

	err = dma_buf_pin(db->attach);
	if (err)
		return err;

	sgt = dma_buf_map_attachment(db->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		dma_buf_unpin(db->attach);
		return PTR_ERR(sgt);
	}
	db->sgt = sgt;

	/* The exporter may still be filling the buffer. */
	ret = dma_resv_wait_timeout(resv, DMA_RESV_USAGE_KERNEL, true,
				    MAX_SCHEDULE_TIMEOUT);
	err = ret < 0 ? ret : rxe_dmabuf_map_parts(db, start, end);
	if (err)
		rxe_dmabuf_revoke(db);

	return err;
}

static int rxe_dmabuf_attach(struct rxe_dmabuf *db, int fd, u64 length)
{
	struct dma_buf *dmabuf;
	u64 end;
	int err;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return PTR_ERR(dmabuf);

	if (!length || check_add_overflow(db->offset, length, &end) ||
	    end > dmabuf->size) {
		err = -EINVAL;
		goto err_put;
	}

	db->attach = dma_buf_dynamic_attach(dmabuf, db->dev,
					    &rxe_dmabuf_attach_ops, db);
	if (IS_ERR(db->attach)) {
		err = PTR_ERR(db->attach);
		goto err_put;
	}

	dma_resv_lock(dmabuf->resv, NULL);
	err = rxe_dmabuf_map(db, ALIGN_DOWN(db->offset, PAGE_SIZE), end);
	dma_resv_unlock(dmabuf->resv);
	if (err)
		goto err_detach;

	return 0;

err_detach:
	dma_buf_detach(dmabuf, db->attach);
err_put:
	dma_buf_put(dmabuf);
	return err;
}

/* Find the first PCI ancestor of the netdev; for virtio-net that is the parent
 * of the virtio device. A registered netdev keeps its ancestors. While the mutex
 * is held, unregistration waits in rxe_dmabuf_netdev_gone().
 */
static struct device *rxe_dmabuf_importer(struct net_device *ndev)
{
	struct device *dev = &ndev->dev;

	lockdep_assert_held(&rxe_dmabuf_mutex);

	if (READ_ONCE(ndev->reg_state) != NETREG_REGISTERED)
		return ERR_PTR(-ENODEV);

	while (dev && !dev_is_pci(dev))
		dev = dev->parent;

	return dev ? get_device(dev) : ERR_PTR(-EOPNOTSUPP);
}

static struct rxe_dmabuf *rxe_dmabuf_get(struct net_device *ndev, int fd,
					 u64 offset, u64 length)
{
	struct rxe_dmabuf *db;
	int err;

	db = kzalloc_obj(*db);
	if (!db)
		return ERR_PTR(-ENOMEM);

	db->ndev = ndev;
	db->offset = offset;
	init_rwsem(&db->lock);
	INIT_LIST_HEAD(&db->parts);

	mutex_lock(&rxe_dmabuf_mutex);
	db->dev = rxe_dmabuf_importer(ndev);
	if (IS_ERR(db->dev)) {
		err = PTR_ERR(db->dev);
		goto err_unlock;
	}

	err = rxe_dmabuf_attach(db, fd, length);
	if (err)
		goto err_put_device;

	list_add(&db->list, &rxe_dmabuf_list);
	mutex_unlock(&rxe_dmabuf_mutex);
	return db;

err_put_device:
	put_device(db->dev);
err_unlock:
	mutex_unlock(&rxe_dmabuf_mutex);
	kfree(db);
	return ERR_PTR(err);
}

static void rxe_dmabuf_put(struct rxe_dmabuf *db)
{
	struct dma_buf *dmabuf = db->attach->dmabuf;

	mutex_lock(&rxe_dmabuf_mutex);
	list_del(&db->list);
	dma_resv_lock(dmabuf->resv, NULL);
	rxe_dmabuf_revoke(db);
	dma_resv_unlock(dmabuf->resv);
	mutex_unlock(&rxe_dmabuf_mutex);

	dma_buf_detach(dmabuf, db->attach);
	dma_buf_put(dmabuf);
	put_device(db->dev);
	kfree(db);
}

/**
 * rxe_dmabuf_netdev_gone - revoke all MRs that a netdev's PCI function imports
 * @ndev: the netdev, which is being unregistered
 *
 * The DMA mappings must be undone before the importing device is removed. The
 * caller holds rtnl.
 */
void rxe_dmabuf_netdev_gone(struct net_device *ndev)
{
	struct rxe_dmabuf *db;

	mutex_lock(&rxe_dmabuf_mutex);
	list_for_each_entry(db, &rxe_dmabuf_list, list) {
		struct dma_resv *resv = db->attach->dmabuf->resv;

		if (db->ndev != ndev)
			continue;

		dma_resv_lock(resv, NULL);
		rxe_dmabuf_revoke(db);
		dma_resv_unlock(resv);
	}
	mutex_unlock(&rxe_dmabuf_mutex);
}

static int rxe_dmabuf_mr_init(struct rxe_mr *mr, u64 offset, u64 length,
			      u64 iova, int fd, int access)
{
	struct net_device *ndev;
	struct rxe_dmabuf *db;

	rxe_mr_init(access, mr);

	ndev = ib_device_get_netdev(mr->ibmr.device, 1);
	if (!ndev)
		return -ENODEV;

	db = rxe_dmabuf_get(ndev, fd, offset, length);
	dev_put(ndev);
	if (IS_ERR(db))
		return PTR_ERR(db);

	mr->dmabuf = db;
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->ibmr.iova = iova;
	mr->ibmr.length = length;
	mr->state = RXE_MR_STATE_VALID;
	return 0;
}

/**
 * rxe_reg_user_mr_dmabuf - register an MR over a dma-buf of I/O memory
 * @ibpd: the protection domain
 * @offset: offset of the MR in the buffer
 * @length: length of the MR in bytes
 * @iova: address of the MR's first byte for RDMA
 * @fd: the dma-buf
 * @access: enum ib_access_flags; MW_BIND and FLUSH are refused
 * @dmah: must be NULL
 * @attrs: unused
 *
 * Return: the MR, or an ERR_PTR: EOPNOTSUPP if the netdev is not below a PCI
 * function, if the buffer is not I/O memory, or if @access or @dmah cannot be
 * served; EINVAL if the range is not in the buffer; the exporter's errno.
 */
struct ib_mr *rxe_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset,
				     u64 length, u64 iova, int fd, int access,
				     struct ib_dmah *dmah,
				     struct uverbs_attr_bundle *attrs)
{
	struct rxe_dev *rxe = to_rdev(ibpd->device);
	struct rxe_pd *pd = to_rpd(ibpd);
	struct rxe_mr *mr;
	int err;

	if (dmah || access & ~RXE_DMABUF_ACCESS)
		return ERR_PTR(-EOPNOTSUPP);

	mr = kzalloc_obj(*mr);
	if (!mr)
		return ERR_PTR(-ENOMEM);

	err = rxe_add_to_pool(&rxe->mr_pool, mr);
	if (err)
		goto err_free;

	rxe_get(pd);
	mr->ibmr.pd = ibpd;
	mr->ibmr.device = ibpd->device;

	err = rxe_dmabuf_mr_init(mr, offset, length, iova, fd, access);
	if (err) {
		rxe_dbg_mr(mr, "unable to import dma-buf, err = %d\n", err);
		goto err_cleanup;
	}

	rxe_finalize(mr);
	return &mr->ibmr;

err_cleanup:
	rxe_cleanup(mr);
err_free:
	kfree(mr);
	return ERR_PTR(err);
}

/**
 * rxe_dmabuf_mr_cleanup - release the dma-buf of an MR, if it has one
 * @mr: the MR
 */
void rxe_dmabuf_mr_cleanup(struct rxe_mr *mr)
{
	if (mr->dmabuf)
		rxe_dmabuf_put(mr->dmabuf);
}

/* Returns the width of the widest naturally aligned access within @len bytes. */
static unsigned int rxe_dmabuf_width(const void __iomem *va, unsigned int len)
{
	unsigned int width = sizeof(u64);

	while (width > len || (unsigned long)va & (width - 1))
		width /= 2;

	return width;
}

static void rxe_dmabuf_write(void __iomem *to, const void *from,
			     unsigned int len)
{
	unsigned int width;

	for (; len; to += width, from += width, len -= width) {
		width = rxe_dmabuf_width(to, len);
		switch (width) {
		case 8:
			writeq(get_unaligned_le64(from), to);
			break;
		case 4:
			writel(get_unaligned_le32(from), to);
			break;
		case 2:
			writew(get_unaligned_le16(from), to);
			break;
		default:
			writeb(*(const u8 *)from, to);
		}
	}
}

static void rxe_dmabuf_read(void *to, const void __iomem *from,
			    unsigned int len)
{
	unsigned int width;

	for (; len; to += width, from += width, len -= width) {
		width = rxe_dmabuf_width(from, len);
		switch (width) {
		case 8:
			put_unaligned_le64(readq(from), to);
			break;
		case 4:
			put_unaligned_le32(readl(from), to);
			break;
		case 2:
			put_unaligned_le16(readw(from), to);
			break;
		default:
			*(u8 *)to = readb(from);
		}
	}
}

/**
 * rxe_dmabuf_mr_copy - copy to or from an MR
 * @mr: the MR
 * @iova: address in the MR; the caller has checked the range
 * @addr: the other side of the copy
 * @length: in bytes
 * @dir: direction of the copy
 *
 * Naturally aligned 1, 2, 4 or 8 bytes are exactly one access of that width, so
 * one doorbell write reaches the device as one write.
 *
 * Return: 0, or EFAULT if the buffer is revoked.
 */
int rxe_dmabuf_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		       unsigned int length, enum rxe_mr_copy_dir dir)
{
	struct rxe_dmabuf *db = mr->dmabuf;
	u64 pos = db->offset + (iova - mr->ibmr.iova);
	struct rxe_dmabuf_part *part;

	down_read(&db->lock);
	list_for_each_entry(part, &db->parts, list) {
		u64 skip = pos - part->start;
		unsigned int bytes;

		if (pos < part->start || skip >= part->len)
			continue;

		bytes = min_t(u64, length, part->len - skip);
		if (dir == RXE_TO_MR_OBJ)
			rxe_dmabuf_write(part->va + skip, addr, bytes);
		else
			rxe_dmabuf_read(addr, part->va + skip, bytes);

		pos += bytes;
		addr += bytes;
		length -= bytes;
		if (!length)
			break;
	}
	up_read(&db->lock);

	return length ? -EFAULT : 0;
}

/**
 * rxe_dmabuf_mr_atomic_write - ATOMIC WRITE to an MR
 * @mr: the MR
 * @iova: address in the MR
 * @value: the eight bytes to write
 *
 * Return: RESPST_NONE, or the state that reports the error to the peer.
 */
enum resp_states rxe_dmabuf_mr_atomic_write(struct rxe_mr *mr, u64 iova,
					    u64 value)
{
	/* See IBA oA19-28 */
	if (mr_check_range(mr, iova, sizeof(value)))
		return RESPST_ERR_RKEY_VIOLATION;

	/* See IBA A19.4.2 */
	if ((mr->dmabuf->offset + iova - mr->ibmr.iova) % sizeof(value))
		return RESPST_ERR_MISALIGNED_ATOMIC;

	if (rxe_dmabuf_mr_copy(mr, iova, &value, sizeof(value), RXE_TO_MR_OBJ))
		return RESPST_ERR_RKEY_VIOLATION;

	return RESPST_NONE;
}
