// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two connected queue pairs of rxe, and their completion queue. Work requests and
 * completions are in memory that rxe shares (include/uapi/rdma/rdma_user_rxe.h).
 */
#include <rdma/rdma_user_rxe.h>
#include <sys/mman.h>

#define RXE_COMPLETIONS		16
#define RXE_REQUESTS		4
#define IB_SEND_SIGNALED	2
#define IB_MTU_1024		3

/* Members of include/rdma/ib_verbs.h. */
enum ib_qp_state {
	IB_QPS_INIT = 1,
	IB_QPS_RTR = 2,
	IB_QPS_RTS = 3,
};

enum ib_qp_attr_mask {
	IB_QP_STATE = 1 << 0,
	IB_QP_ACCESS_FLAGS = 1 << 3,
	IB_QP_PKEY_INDEX = 1 << 4,
	IB_QP_PORT = 1 << 5,
	IB_QP_AV = 1 << 7,
	IB_QP_PATH_MTU = 1 << 8,
	IB_QP_TIMEOUT = 1 << 9,
	IB_QP_RETRY_CNT = 1 << 10,
	IB_QP_RNR_RETRY = 1 << 11,
	IB_QP_RQ_PSN = 1 << 12,
	IB_QP_MAX_QP_RD_ATOMIC = 1 << 13,
	IB_QP_MIN_RNR_TIMER = 1 << 15,
	IB_QP_SQ_PSN = 1 << 16,
	IB_QP_MAX_DEST_RD_ATOMIC = 1 << 17,
	IB_QP_DEST_QPN = 1 << 20,
};

struct rxe_qp {
	uint32_t handle;
	uint32_t number;
	struct rxe_queue_buf *requests;
	size_t size;
};

static int map_queue(struct uverbs *verbs, const struct mminfo *info, struct rxe_queue_buf **queue)
{
	*queue = mmap(NULL, info->size, PROT_READ | PROT_WRITE, MAP_SHARED, verbs->fd,
		      info->offset);
	return *queue == MAP_FAILED ? -errno : 0;
}

static int create_cq(struct uverbs *verbs, uint32_t *handle, struct rxe_queue_buf **completions)
{
	struct {
		struct ib_uverbs_create_cq_resp base;
		struct rxe_create_cq_resp rxe;
	} response;
	struct ib_uverbs_create_cq request = {
		.response = (uintptr_t)&response,
		.cqe = RXE_COMPLETIONS,
		.comp_channel = -1,
	};
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_CREATE_CQ, &request, sizeof(request),
				 sizeof(response));

	*handle = response.base.cq_handle;
	return ret ? ret : map_queue(verbs, &response.rxe.mi, completions);
}

static int create_qp(struct uverbs *verbs, struct rxe_qp *qp, uint32_t cq)
{
	struct {
		struct ib_uverbs_create_qp_resp base;
		struct rxe_create_qp_resp rxe;
	} response;
	struct ib_uverbs_create_qp request = {
		.response = (uintptr_t)&response,
		.pd_handle = verbs->pd,
		.send_cq_handle = cq,
		.recv_cq_handle = cq,
		.max_send_wr = RXE_REQUESTS,
		.max_recv_wr = 1,
		.max_send_sge = 1,
		.max_recv_sge = 1,
		.qp_type = IB_UVERBS_QPT_RC,
	};
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_CREATE_QP, &request, sizeof(request),
				 sizeof(response));

	if (ret)
		return ret;
	qp->handle = response.base.qp_handle;
	qp->number = response.base.qpn;
	qp->size = response.rxe.sq_mi.size;
	return map_queue(verbs, &response.rxe.sq_mi, &qp->requests);
}

static int destroy_qp(struct uverbs *verbs, struct rxe_qp *qp)
{
	struct ib_uverbs_destroy_qp_resp response;
	struct ib_uverbs_destroy_qp request = {
		.response = (uintptr_t)&response,
		.qp_handle = qp->handle,
	};

	munmap(qp->requests, qp->size);
	return uverbs_command(verbs->fd, IB_USER_VERBS_CMD_DESTROY_QP, &request, sizeof(request),
			      sizeof(response));
}

static int modify_qp(struct uverbs *verbs, struct ib_uverbs_modify_qp *request,
		     enum ib_qp_state state, uint32_t mask)
{
	request->qp_state = state;
	request->attr_mask = IB_QP_STATE | mask;
	return uverbs_command(verbs->fd, IB_USER_VERBS_CMD_MODIFY_QP, request, sizeof(*request), 0);
}

/* Connect a queue pair to @number at @gid. Retries last about 4 s, since emulation may be slow. */
static int connect_qp(struct uverbs *verbs, struct rxe_qp *qp, uint32_t number, const uint8_t *gid,
		      int gid_index)
{
	struct ib_uverbs_modify_qp request = {
		.qp_handle = qp->handle,
		.qp_access_flags = RDMA_ACCESS,
		.port_num = 1,
		.dest_qp_num = number,
		.path_mtu = IB_MTU_1024,
		.max_rd_atomic = 1,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.timeout = 17,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.dest.is_global = 1,
		.dest.port_num = 1,
		.dest.sgid_index = gid_index,
		.dest.hop_limit = 1,
	};
	int ret;

	memcpy(request.dest.dgid, gid, sizeof(request.dest.dgid));
	ret = modify_qp(verbs, &request, IB_QPS_INIT,
			IB_QP_PKEY_INDEX | IB_QP_PORT | IB_QP_ACCESS_FLAGS);
	if (!ret)
		ret = modify_qp(verbs, &request, IB_QPS_RTR,
				IB_QP_AV | IB_QP_PATH_MTU | IB_QP_DEST_QPN | IB_QP_RQ_PSN |
				IB_QP_MAX_DEST_RD_ATOMIC | IB_QP_MIN_RNR_TIMER);
	if (!ret)
		ret = modify_qp(verbs, &request, IB_QPS_RTS,
				IB_QP_SQ_PSN | IB_QP_TIMEOUT | IB_QP_RETRY_CNT | IB_QP_RNR_RETRY |
				IB_QP_MAX_QP_RD_ATOMIC);
	return ret;
}

/* One side of an RDMA transfer. */
struct rdma_bytes {
	uint64_t address;
	uint32_t key;
};

/* Post an RDMA READ or WRITE of @length bytes, and let the kernel look at the queue. */
static int post(struct uverbs *verbs, struct rxe_qp *qp, uint32_t opcode, struct rdma_bytes local,
		struct rdma_bytes remote, uint32_t length)
{
	struct rxe_queue_buf *queue = qp->requests;
	uint32_t at = queue->producer_index & queue->index_mask;
	struct rxe_send_wqe *wqe = (void *)(queue->data + (at << queue->log2_elem_size));
	struct ib_uverbs_post_send_resp response;
	struct ib_uverbs_post_send request = {
		.response = (uintptr_t)&response,
		.qp_handle = qp->handle,
		.wqe_size = sizeof(struct ib_uverbs_send_wr),
	};

	memset(wqe, 0, sizeof(*wqe));
	wqe->wr.opcode = opcode;
	wqe->wr.send_flags = IB_SEND_SIGNALED;
	wqe->wr.wr.rdma.remote_addr = remote.address;
	wqe->wr.wr.rdma.rkey = remote.key;
	wqe->iova = remote.address;
	wqe->dma.length = length;
	wqe->dma.resid = length;
	wqe->dma.num_sge = 1;
	wqe->dma.sge[0].addr = local.address;
	wqe->dma.sge[0].length = length;
	wqe->dma.sge[0].lkey = local.key;
	__atomic_store_n(&queue->producer_index, (at + 1) & queue->index_mask, __ATOMIC_RELEASE);
	return uverbs_command(verbs->fd, IB_USER_VERBS_CMD_POST_SEND, &request, sizeof(request),
			      sizeof(response));
}

/* Wait for a completion, and return its status. */
static int wait_completion(struct rxe_queue_buf *queue)
{
	uint32_t at = queue->consumer_index & queue->index_mask;
	long long end_ms = now_ms() + 60000;
	const struct ib_uverbs_wc *wc;
	int status;

	while (__atomic_load_n(&queue->producer_index, __ATOMIC_ACQUIRE) == at) {
		if (now_ms() > end_ms)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	wc = (const void *)(queue->data + (at << queue->log2_elem_size));
	status = wc->status;
	__atomic_store_n(&queue->consumer_index, (at + 1) & queue->index_mask, __ATOMIC_RELEASE);
	return status;
}
