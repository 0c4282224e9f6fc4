// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NVMe controller, driven from user space. It queues commands; the program
 * rings their doorbells. Registers: NVM Express base specification 1.4, 3.1.
 */

#define NVME_CC			0x14
#define NVME_CSTS		0x1c
#define NVME_AQA		0x24
#define NVME_ASQ		0x28
#define NVME_ACQ		0x30
#define NVME_CMBLOC		0x38
#define NVME_CMBSZ		0x3c
#define NVME_CMBMSC		0x50
#define NVME_DOORBELLS		0x1000
#define NVME_REGISTERS		0x2000
#define NVME_CC_ENTRY_SIZES	(6u << 16 | 4u << 20)
#define NVME_CC_ENABLE		1u
#define NVME_CSTS_READY		1u
#define NVME_QUEUES		3
#define NVME_DEPTH		64
#define NVME_CREATE_SQ		0x01
#define NVME_CREATE_CQ		0x05
#define NVME_IDENTIFY		0x06
#define NVME_WRITE		0x01
#define NVME_READ		0x02
#define NVME_USES_SGL		0x40
#define NVME_SGL_LAST_SEGMENT	0x30

/* The CMB's address on the controller's side, above all IOVAs. */
#define NVME_CMB_ADDRESS	(448ull << 30)

struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags;
	uint16_t cid;
	uint32_t nsid;
	uint64_t reserved;
	uint64_t metadata;
	uint64_t dptr[2];
	uint32_t cdw[6];
};

struct nvme_cqe {
	uint32_t result;
	uint32_t reserved;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t cid;
	uint16_t status;
};

struct nvme_queue {
	uint16_t id;
	uint16_t tail;
	uint16_t head;
	uint16_t phase;
	uint64_t sq;	/* offsets in the controller's memory */
	uint64_t cq;
};

struct nvme {
	struct device *device;
	uint32_t *registers;	/* BAR0, if it is mapped */
	struct memory memory;	/* a page of data, then two pages for each queue pair */
	struct nvme_queue queues[NVME_QUEUES];
	int queue_count;
	uint16_t cid;
};

static uint32_t nvme_load(struct nvme *nvme, uint32_t offset)
{
	uint32_t value = ~0u;

	if (nvme->registers)
		return __atomic_load_n(&nvme->registers[offset / 4], __ATOMIC_ACQUIRE);
	device_read(nvme->device, 0, offset, &value, sizeof(value));
	return value;
}

static int nvme_store(struct nvme *nvme, uint32_t offset, uint32_t value)
{
	if (!nvme->registers)
		return device_write(nvme->device, 0, offset, &value, sizeof(value));
	__atomic_store_n(&nvme->registers[offset / 4], value, __ATOMIC_RELEASE);
	return 0;
}

/* Give a controller its memory. It is not started yet. */
static int nvme_init(struct nvme *nvme, struct device *device)
{
	*nvme = (struct nvme){ .device = device };
	return memory_share(&nvme->memory, device->space, (1 + 2 * NVME_QUEUES) * PAGE);
}

static struct nvme_queue *nvme_new_queue(struct nvme *nvme, uint16_t id)
{
	struct nvme_queue *queue = &nvme->queues[nvme->queue_count];

	*queue = (struct nvme_queue){
		.id = id,
		.phase = 1,
		.sq = (1 + 2 * nvme->queue_count) * PAGE,
		.cq = (2 + 2 * nvme->queue_count) * PAGE,
	};
	memset(nvme->memory.at + queue->sq, 0, 2 * PAGE);
	nvme->queue_count++;
	return queue;
}

/* Wait until the bits of a mask have a value in a register. */
static int nvme_wait(struct nvme *nvme, uint32_t offset, uint32_t mask, uint32_t value)
{
	long long end_ms = now_ms() + 20000;

	while ((nvme_load(nvme, offset) & mask) != value) {
		if (now_ms() > end_ms)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	return 0;
}

/* Enable the controller with an empty admin queue and no other queues. */
static int nvme_start(struct nvme *nvme)
{
	struct nvme_queue *admin;
	int ret = nvme_store(nvme, NVME_CC, 0);

	if (!ret)
		ret = nvme_wait(nvme, NVME_CSTS, NVME_CSTS_READY, 0);
	if (ret)
		return ret;
	nvme->queue_count = 0;
	admin = nvme_new_queue(nvme, 0);
	nvme_store(nvme, NVME_AQA, (NVME_DEPTH - 1) << 16 | (NVME_DEPTH - 1));
	nvme_store(nvme, NVME_ASQ, nvme->memory.iova + admin->sq);
	nvme_store(nvme, NVME_ASQ + 4, (nvme->memory.iova + admin->sq) >> 32);
	nvme_store(nvme, NVME_ACQ, nvme->memory.iova + admin->cq);
	nvme_store(nvme, NVME_ACQ + 4, (nvme->memory.iova + admin->cq) >> 32);
	nvme_store(nvme, NVME_CC, NVME_CC_ENTRY_SIZES | NVME_CC_ENABLE);
	return nvme_wait(nvme, NVME_CSTS, NVME_CSTS_READY, NVME_CSTS_READY);
}

/* Put a command into a queue, without ringing. Return its identifier. */
static int nvme_submit(struct nvme *nvme, struct nvme_queue *queue, struct nvme_sqe sqe)
{
	nvme->cid = (nvme->cid + 1) & 0x7fff;
	sqe.cid = nvme->cid;
	memcpy(nvme->memory.at + queue->sq + queue->tail * sizeof(sqe), &sqe, sizeof(sqe));
	queue->tail = (queue->tail + 1) % NVME_DEPTH;
	return sqe.cid;
}

/* Write a submission queue's doorbell with the CPU. */
static int nvme_ring(struct nvme *nvme, struct nvme_queue *queue)
{
	return nvme_store(nvme, NVME_DOORBELLS + 8 * queue->id, queue->tail);
}

/* Return true if the command completed within @ms. */
static bool nvme_completes(struct nvme *nvme, struct nvme_queue *queue, uint16_t cid,
			   unsigned int ms, uint16_t *status)
{
	long long end_ms = now_ms() + ms;

	do {
		struct nvme_cqe *cqe = (struct nvme_cqe *)(nvme->memory.at + queue->cq) +
				       queue->head;

		if ((__atomic_load_n(&cqe->status, __ATOMIC_ACQUIRE) & 1) != queue->phase) {
			sleep_ms(1);
			continue;
		}
		queue->head = (queue->head + 1) % NVME_DEPTH;
		queue->phase ^= !queue->head;
		nvme_store(nvme, NVME_DOORBELLS + 8 * queue->id + 4, queue->head);
		if (cqe->cid != cid)
			continue;
		if (status)
			*status = cqe->status >> 1;
		return true;
	} while (now_ms() < end_ms);
	return false;
}

static int nvme_run(struct nvme *nvme, struct nvme_queue *queue, struct nvme_sqe sqe)
{
	int cid = nvme_submit(nvme, queue, sqe);
	uint16_t status = 0;

	nvme_ring(nvme, queue);
	if (!nvme_completes(nvme, queue, cid, 20000, &status))
		return -ETIMEDOUT;
	return status ? -EIO : 0;
}

/* Queue an Identify Controller on the admin queue, without ringing. */
static int nvme_queue_identify(struct nvme *nvme)
{
	return nvme_submit(nvme, &nvme->queues[0], (struct nvme_sqe){
		.opcode = NVME_IDENTIFY,
		.dptr = { nvme->memory.iova },
		.cdw = { 1 },
	});
}

/* Return 1 if the admin command @cid completed within @ms, and 0 if not. */
static int nvme_completed(struct nvme *nvme, int cid, unsigned int ms)
{
	return nvme_completes(nvme, &nvme->queues[0], cid, ms, NULL);
}

/* Enable the controller memory buffer. */
static int nvme_enable_cmb(struct nvme *nvme)
{
	nvme_store(nvme, NVME_CMBMSC + 4, NVME_CMB_ADDRESS >> 32);
	return nvme_store(nvme, NVME_CMBMSC, 3);
}

#define NVME_PMRCTL		0xe04
#define NVME_PMRSTS		0xe08
#define NVME_PMRSTS_NOT_READY	(1u << 8)

/* Enable the persistent memory region. */
static int nvme_enable_pmr(struct nvme *nvme)
{
	nvme_store(nvme, NVME_PMRCTL, 1);
	return nvme_wait(nvme, NVME_PMRSTS, NVME_PMRSTS_NOT_READY, 0);
}
