// SPDX-License-Identifier: GPL-2.0-only
/*
 * rxe as importer: a memory region over a dma-buf, which one queue pair reads and
 * writes through another of the same device.
 */
#include <sys/mman.h>

#define RDMA_CHUNK	(256u << 10)	/* bytes of one work request */

struct rxe {
	struct uverbs verbs;
	uint8_t gid[16];
	int gid_index;
	uint32_t cq;
	struct rxe_queue_buf *completions;
	struct rxe_qp pair[2];	/* the first one requests */
	uint8_t *memory;
	uint32_t memory_key;
};

/* The status of the last work completion (enum ib_wc_status), and its name. */
static int rdma_status;

static const char *status_name(int status)
{
	static const char *const names[] = {
		"IBV_WC_SUCCESS",	  "IBV_WC_LOC_LEN_ERR",	    "IBV_WC_LOC_QP_OP_ERR",
		"IBV_WC_LOC_EEC_OP_ERR",  "IBV_WC_LOC_PROT_ERR",    "IBV_WC_WR_FLUSH_ERR",
		"IBV_WC_MW_BIND_ERR",	  "IBV_WC_BAD_RESP_ERR",    "IBV_WC_LOC_ACCESS_ERR",
		"IBV_WC_REM_INV_REQ_ERR", "IBV_WC_REM_ACCESS_ERR",  "IBV_WC_REM_OP_ERR",
		"IBV_WC_RETRY_EXC_ERR",	  "IBV_WC_RNR_RETRY_EXC_ERR",
	};

	return (size_t)status < ARRAY_SIZE(names) ? names[status] : "another status";
}

static int connect_pair(struct rxe *rxe)
{
	int i, ret = create_qp(&rxe->verbs, &rxe->pair[0], rxe->cq);

	if (!ret)
		ret = create_qp(&rxe->verbs, &rxe->pair[1], rxe->cq);
	for (i = 0; i < 2 && !ret; i++)
		ret = connect_qp(&rxe->verbs, &rxe->pair[i], rxe->pair[!i].number, rxe->gid,
				 rxe->gid_index);
	return ret;
}

/* Open rxe over the NIC at @bdf, with memory and two connected queue pairs. */
static int rxe_open(struct rxe *rxe, const char *bdf)
{
	int ret = add_rxe_link(bdf);

	if (ret)
		return ret;
	rxe->gid_index = ipv4_gid(rxe->gid);
	if (rxe->gid_index < 0)
		return rxe->gid_index;
	rxe->memory = mmap(NULL, RDMA_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	if (rxe->memory == MAP_FAILED)
		return -errno;
	ret = uverbs_open(&rxe->verbs, RXE_LINK);
	if (!ret)
		ret = register_memory(&rxe->verbs, rxe->memory, RDMA_CHUNK, &rxe->memory_key);
	if (!ret)
		ret = create_cq(&rxe->verbs, &rxe->cq, &rxe->completions);
	return ret ? ret : connect_pair(rxe);
}

/* Close rxe. The kernel deregisters its memory regions. */
static int rxe_close(struct rxe *rxe)
{
	munmap(rxe->pair[0].requests, rxe->pair[0].size);
	munmap(rxe->pair[1].requests, rxe->pair[1].size);
	munmap(rxe->memory, RDMA_CHUNK);
	return uverbs_close(&rxe->verbs);
}

/*
 * Run one RDMA READ or WRITE. Return -EREMOTEIO if its completion has a bad status,
 * which is in rdma_status; the queue pairs are new then.
 */
static int rxe_transfer(struct rxe *rxe, uint32_t opcode, struct rdma_bytes local,
			struct rdma_bytes remote, uint32_t length)
{
	int i, ret = post(&rxe->verbs, &rxe->pair[0], opcode, local, remote, length);

	if (!ret)
		ret = wait_completion(rxe->completions);
	if (ret < 0)
		end(NOT_RUN, "an RDMA transfer completes", "%s", error_name(-ret));
	rdma_status = ret;
	if (!ret)
		return 0;
	say("# the work completion has the status %s", status_name(ret));
	for (i = 0; i < 2; i++)
		destroy_qp(&rxe->verbs, &rxe->pair[i]);
	ret = connect_pair(rxe);
	return ret ? ret : -EREMOTEIO;
}

/* A memory region over a dma-buf. */
struct rdma_region {
	struct rxe *rxe;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
	uint64_t iova;
	bool local;	/* the local side of a transfer, whose other side is memory */
};

/* A method that registers an MR. The newer one also registers memory. */
enum mr_method {
	REG_DMABUF_MR,
	REG_MR,
};

enum mr_attribute {
	MR_DOMAIN,
	MR_START,
	MR_LENGTH,
	MR_IOVA,
	MR_FD,
	MR_ACCESS,
	MR_LKEY,
	MR_RKEY,
	MR_ATTRIBUTES,
};

struct mr_method_ids {
	uint16_t method;
	struct {
		uint16_t id;
		uint16_t length;	/* 0 for a handle or an fd */
	} attributes[MR_ATTRIBUTES];
};

/* REG_MR as in include/uapi/rdma/ib_user_ioctl_cmds.h of Linux 7.2. */
static const struct mr_method_ids mr_methods[] = {
	[REG_DMABUF_MR] = { UVERBS_METHOD_REG_DMABUF_MR, {
		[MR_DOMAIN] = { UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, 0 },
		[MR_START] = { UVERBS_ATTR_REG_DMABUF_MR_OFFSET, 8 },
		[MR_LENGTH] = { UVERBS_ATTR_REG_DMABUF_MR_LENGTH, 8 },
		[MR_IOVA] = { UVERBS_ATTR_REG_DMABUF_MR_IOVA, 8 },
		[MR_FD] = { UVERBS_ATTR_REG_DMABUF_MR_FD, 4 },
		[MR_ACCESS] = { UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, 4 },
		[MR_LKEY] = { UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, 4 },
		[MR_RKEY] = { UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, 4 },
	} },
	[REG_MR] = { 5, {
		[MR_DOMAIN] = { 1, 0 },
		[MR_START] = { 8, 8 },
		[MR_LENGTH] = { 5, 8 },
		[MR_IOVA] = { 3, 8 },
		[MR_FD] = { 7, 0 },
		[MR_ACCESS] = { 6, 4 },
		[MR_LKEY] = { 9, 4 },
		[MR_RKEY] = { 10, 4 },
	} },
};

struct mr_arguments {
	enum mr_method method;
	int fd;
	uint64_t start;
	uint64_t length;
	uint64_t iova;
	uint32_t access;
	uint32_t without;	/* bits of the attributes that are left out */
	uint32_t unwritable;	/* bits of the keys for which the kernel gets a bad address */
	const uint32_t *domain;	/* the handle of a protection domain, or NULL */
};

#define UNMAPPED	8	/* an address below vm.mmap_min_addr */

static int register_mr(struct rdma_region *region, struct rxe *rxe, struct mr_arguments mr)
{
	const uint64_t values[MR_ATTRIBUTES] = {
		[MR_DOMAIN] = mr.domain ? *mr.domain : rxe->verbs.pd,
		[MR_START] = mr.start,
		[MR_LENGTH] = mr.length,
		[MR_IOVA] = mr.iova,
		[MR_FD] = mr.method == REG_MR ? (uint64_t)mr.fd : (uint32_t)mr.fd,
		[MR_ACCESS] = mr.access,
		[MR_LKEY] = mr.unwritable & 1 << MR_LKEY ? UNMAPPED : (uintptr_t)&region->lkey,
		[MR_RKEY] = mr.unwritable & 1 << MR_RKEY ? UNMAPPED : (uintptr_t)&region->rkey,
	};
	struct mr_call request = { 0 };
	int i, ret;

	*region = (struct rdma_region){
		.rxe = rxe,
		.iova = mr.without & 1 << MR_IOVA ? 0 : mr.iova,
	};
	add_attribute(&request, 0, 0, 0);	/* the handle, of both methods */
	for (i = 0; i < MR_ATTRIBUTES; i++) {
		if (!(mr.without & 1 << i))
			add_attribute(&request, mr_methods[mr.method].attributes[i].id,
				      mr_methods[mr.method].attributes[i].length, values[i]);
	}
	ret = call_mr_method(&rxe->verbs, mr_methods[mr.method].method, &request);
	region->handle = request.attributes[0].data;
	return ret;
}

/* Register part of a buffer, with all access. */
static int import_by_rxe(struct rdma_region *region, struct rxe *rxe, struct buffer *buffer,
			 uint64_t start, uint64_t length)
{
	return register_mr(region, rxe, (struct mr_arguments){
		.fd = buffer->fd,
		.start = start,
		.length = length,
		.iova = start,
		.access = RDMA_ACCESS,
	});
}

static int region_close(struct rdma_region *region)
{
	return deregister(&region->rxe->verbs, region->handle);
}

/* Make the local side of transfers of a region. */
static int region_local(struct rdma_region *local, struct rdma_region *region)
{
	*local = *region;
	local->local = true;
	return 0;
}

/*
 * Copy bytes between a region and rxe's memory. A region that is the local side
 * is written by a READ of the memory, and read by a WRITE to it.
 */
static int region_copy(struct rdma_region *region, uint64_t offset, uint32_t length, bool write)
{
	struct rxe *rxe = region->rxe;
	struct rdma_bytes memory = { (uintptr_t)rxe->memory, rxe->memory_key };
	struct rdma_bytes bytes = {
		region->iova + offset,
		region->local ? region->lkey : region->rkey,
	};
	uint32_t opcode = write == region->local ? IB_UVERBS_WR_RDMA_READ :
						   IB_UVERBS_WR_RDMA_WRITE;

	if (region->local)
		return rxe_transfer(rxe, opcode, bytes, memory, length);
	return rxe_transfer(rxe, opcode, memory, bytes, length);
}

static int region_write(struct rdma_region *region, uint64_t offset, const void *data, uint32_t length)
{
	if (length > RDMA_CHUNK)
		return -E2BIG;
	memcpy(region->rxe->memory, data, length);
	return region_copy(region, offset, length, true);
}

/* Write a dword with one access. */
static int region_store32(struct rdma_region *region, uint64_t offset, uint32_t value)
{
	return region_write(region, offset, &value, sizeof(value));
}

/* Read up to 8 bytes as a number. */
static long long region_load(struct rdma_region *region, uint64_t offset, uint32_t length)
{
	long long value = 0;
	int ret = region_copy(region, offset, length, false);

	if (ret)
		return ret;
	memcpy(&value, region->rxe->memory, length);
	return value;
}

/* A protection domain of its own. */
struct rdma_domain {
	struct rxe *rxe;
	uint32_t handle;
};

static int rdma_domain(struct rdma_domain *domain, struct rxe *rxe)
{
	struct uverbs verbs = { .fd = rxe->verbs.fd };
	int ret = alloc_pd(&verbs);

	*domain = (struct rdma_domain){ .rxe = rxe, .handle = verbs.pd };
	return ret;
}

static int rdma_domain_free(struct rdma_domain *domain)
{
	struct ib_uverbs_dealloc_pd request = { .pd_handle = domain->handle };

	return uverbs_command(domain->rxe->verbs.fd, IB_USER_VERBS_CMD_DEALLOC_PD, &request,
			      sizeof(request), 0);
}
