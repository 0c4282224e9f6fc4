/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory regions over a dma-buf of I/O memory; see rxe_dmabuf.c
 */

#ifndef RXE_DMABUF_H
#define RXE_DMABUF_H

struct ib_mr *rxe_reg_user_mr_dmabuf(struct ib_pd *ibpd, u64 offset,
				     u64 length, u64 iova, int fd, int access,
				     struct ib_dmah *dmah,
				     struct uverbs_attr_bundle *attrs);
void rxe_dmabuf_mr_cleanup(struct rxe_mr *mr);
void rxe_dmabuf_netdev_gone(struct net_device *ndev);
int rxe_dmabuf_mr_copy(struct rxe_mr *mr, u64 iova, void *addr,
		       unsigned int length, enum rxe_mr_copy_dir dir);
enum resp_states rxe_dmabuf_mr_atomic_write(struct rxe_mr *mr, u64 iova,
					    u64 value);

#endif /* RXE_DMABUF_H */
