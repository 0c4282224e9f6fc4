// SPDX-License-Identifier: GPL-2.0-only
/* Devices that import: a window of a dma-buf, and the DMA that moves bytes through it. */

struct engine {
	struct space *space;
	const char *bdf;	/* behind the DMA API; otherwise NULL */
	int (*write)(struct engine *engine, uint64_t iova, const void *data, uint32_t length);
	int (*read)(struct engine *engine, uint64_t iova, void *data, uint32_t length);
};

#define MAX_AREAS	256

struct window {
	struct engine *engine;
	uint64_t start;
	uint64_t length;
	int area_count;
	struct {
		uint64_t address;
		uint64_t length;
	} areas[MAX_AREAS];
	struct attachment attachment;
};

static void one_area(struct window *window, struct engine *engine, uint64_t iova, uint64_t length)
{
	*window = (struct window){ .engine = engine, .length = length, .area_count = 1 };
	window->areas[0].address = iova;
	window->areas[0].length = length;
}

/* Make a window of what the importer's address space already maps at an IOVA. */
static int window_at(struct window *window, struct engine *engine, uint64_t iova, uint64_t length)
{
	one_area(window, engine, iova, length);
	return 0;
}

/* Map part of a buffer into the address space of an importer behind iommufd. */
static int import(struct window *window, struct engine *engine, struct buffer *buffer,
		  uint64_t start, uint64_t length)
{
	uint64_t iova = ANY_IOVA;
	int ret = ioas_map_file(engine->space, buffer->fd, start, length,
				IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA, &iova);

	if (!ret)
		one_area(window, engine, iova, length);
	return ret;
}

/* Map what another address space maps at an IOVA into an importer's. */
static int import_copy(struct window *window, struct engine *engine, struct space *source,
		       uint64_t source_iova, uint64_t length)
{
	uint64_t iova = ANY_IOVA;
	int ret = ioas_copy(engine->space, source, source_iova, length,
			    IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA, &iova);

	if (!ret)
		one_area(window, engine, iova, length);
	return ret;
}

/* Make a window of a mapped attachment of the importer's device. */
static int window_of(struct window *window, struct engine *engine, struct attachment *attachment,
		     uint64_t start, uint64_t length)
{
	static struct importer_sg_entry entries[MAX_AREAS];
	int i, count = sg_table(attachment, entries, MAX_AREAS);

	if (count < 0)
		return count;
	*window = (struct window){
		.engine = engine,
		.start = start,
		.length = length,
		.area_count = count,
		.attachment = *attachment,
	};
	for (i = 0; i < count; i++) {
		window->areas[i].address = entries[i].address;
		window->areas[i].length = entries[i].length;
	}
	return 0;
}

/* Attach an importer behind the DMA API to a buffer, and map it. */
static int import_by_dma_api(struct window *window, struct engine *engine, struct buffer *buffer,
			     uint64_t start, uint64_t length)
{
	struct attachment attachment;
	int ret = attach(&attachment, engine->bdf, buffer->fd,
			 IMPORTER_PEER2PEER | IMPORTER_CALLBACK, 0);

	if (!ret)
		ret = map(&attachment);
	return ret ? ret : window_of(window, engine, &attachment, start, length);
}

/* Unmap a window of an importer behind iommufd. */
static int window_close(struct window *window)
{
	return ioas_unmap(window->engine->space, window->areas[0].address, window->length);
}

static int window_detach(struct window *window)
{
	return detach(&window->attachment);
}

static uint64_t window_address(struct window *window, uint64_t offset)
{
	int i;

	offset += window->start;
	for (i = 0; i < window->area_count; i++) {
		if (offset < window->areas[i].length)
			return window->areas[i].address + offset;
		offset -= window->areas[i].length;
	}
	return 0;
}

/* Let the importer write a dword with one access. A DMA that the IOMMU refuses is no error. */
static int window_store32(struct window *window, uint64_t offset, uint32_t value)
{
	return window->engine->write(window->engine, window_address(window, offset), &value, 4);
}

/* Let the importer write bytes of one page. */
static int window_write(struct window *window, uint64_t offset, const void *data, uint32_t length)
{
	return window->engine->write(window->engine, window_address(window, offset), data, length);
}

static int window_read(struct window *window, uint64_t offset, void *data, uint32_t length)
{
	return window->engine->read(window->engine, window_address(window, offset), data, length);
}

/* Read up to 8 bytes as a number. */
static long long window_load(struct window *window, uint64_t offset, uint32_t length)
{
	long long value = 0;
	int ret = window_read(window, offset, &value, length);

	return ret ? ret : value;
}

/* A controller as importer. Bytes go through the first block of its namespace. */
struct nvme_engine {
	struct engine engine;
	struct nvme nvme;
	struct memory memory;	/* data, padding, and an SGL: a page each */
	struct nvme_queue *queue;
};

#define NVME_BLOCK	512
#define ENGINE_QUEUE	33

struct nvme_sgl_descriptor {
	uint64_t address;
	uint32_t length;
	uint8_t reserved[3];
	uint8_t kind;
};

/* Make the command that moves up to a block. SGLs are byte granular. */
static struct nvme_sqe nvme_transfer(struct nvme_engine *nvme, uint8_t opcode, uint64_t iova,
				     uint32_t length)
{
	struct nvme_sgl_descriptor *sgl = (void *)(nvme->memory.at + 2 * PAGE);
	struct nvme_sqe sqe = {
		.opcode = opcode,
		.flags = NVME_USES_SGL,
		.nsid = 1,
		.dptr = { nvme->memory.iova + 2 * PAGE },
	};
	struct nvme_sgl_descriptor segment = { .kind = NVME_SGL_LAST_SEGMENT };

	sgl[0] = (struct nvme_sgl_descriptor){ .address = iova, .length = length };
	sgl[1] = (struct nvme_sgl_descriptor){
		.address = nvme->memory.iova + PAGE,
		.length = NVME_BLOCK - length,
	};
	segment.address = sqe.dptr[0];
	segment.length = (length < NVME_BLOCK ? 2 : 1) * sizeof(*sgl);
	memcpy(sqe.dptr, &segment, sizeof(segment));
	return sqe;
}

static int nvme_engine_load(struct nvme_engine *nvme, const void *data, uint32_t length)
{
	if (length > NVME_BLOCK)
		return -E2BIG;
	memcpy(nvme->memory.at, data, length);
	return nvme_run(&nvme->nvme, nvme->queue,
			nvme_transfer(nvme, NVME_WRITE, nvme->memory.iova, length));
}

static int nvme_engine_write(struct engine *engine, uint64_t iova, const void *data,
			     uint32_t length)
{
	struct nvme_engine *nvme = (struct nvme_engine *)engine;
	int ret = nvme_engine_load(nvme, data, length);

	if (ret)
		return ret;
	/* A DMA that the IOMMU refuses ends the command with an error, which says nothing more. */
	ret = nvme_run(&nvme->nvme, nvme->queue, nvme_transfer(nvme, NVME_READ, iova, length));
	return ret == -EIO ? 0 : ret;
}

static int nvme_engine_read(struct engine *engine, uint64_t iova, void *data, uint32_t length)
{
	struct nvme_engine *nvme = (struct nvme_engine *)engine;
	int ret;

	if (length > NVME_BLOCK)
		return -E2BIG;
	ret = nvme_run(&nvme->nvme, nvme->queue, nvme_transfer(nvme, NVME_WRITE, iova, length));
	if (!ret)
		ret = nvme_run(&nvme->nvme, nvme->queue,
			       nvme_transfer(nvme, NVME_READ, nvme->memory.iova, length));
	memcpy(data, nvme->memory.at, length);
	return ret == -EIO ? 0 : ret;
}

/* Start the controller, with an I/O queue of its own. */
static int nvme_engine_start(struct nvme_engine *nvme, struct device *device)
{
	uint32_t size = (NVME_DEPTH - 1) << 16 | ENGINE_QUEUE;
	struct nvme *controller = &nvme->nvme;
	struct nvme_queue *queue;
	int ret;

	nvme->engine = (struct engine){
		.space = device->space,
		.write = nvme_engine_write,
		.read = nvme_engine_read,
	};
	ret = memory_share(&nvme->memory, device->space, 3 * PAGE);
	if (!ret)
		ret = nvme_init(controller, device);
	if (!ret && device->offsets[VFIO_PCI_CONFIG_REGION_INDEX] == 0)
		controller->registers = mmap(NULL, NVME_REGISTERS, PROT_READ | PROT_WRITE,
					     MAP_SHARED, device->fd, 0);
	if (!ret)
		ret = nvme_start(controller);
	if (ret)
		return ret;
	queue = nvme_new_queue(controller, ENGINE_QUEUE);
	nvme->queue = queue;
	ret = nvme_run(controller, &controller->queues[0], (struct nvme_sqe){
		.opcode = NVME_CREATE_CQ,
		.dptr = { controller->memory.iova + queue->cq },
		.cdw = { size, 1 },
	});
	if (!ret)
		ret = nvme_run(controller, &controller->queues[0], (struct nvme_sqe){
			.opcode = NVME_CREATE_SQ,
			.dptr = { controller->memory.iova + queue->sq },
			.cdw = { size, ENGINE_QUEUE << 16 | 1 },
		});
	return ret;
}

/* Take the controller at @bdf from its driver, and use it behind the DMA API. */
static int nvme_engine_start_by_dma_api(struct nvme_engine *nvme, const char *bdf)
{
	static struct device device;
	static struct space space;
	int ret = device_open_sysfs(&device, bdf, &space);

	if (!ret)
		ret = nvme_engine_start(nvme, &device);
	nvme->engine.bdf = bdf;
	return ret;
}

/* Make a call, and let the importer store a dword as soon as the call has returned. */
static int window_store32_after(struct window *window, uint64_t offset, uint32_t value,
				int (*act)(struct device *device), struct device *device)
{
	struct nvme_engine *nvme = (struct nvme_engine *)window->engine;
	int cid, ret = nvme_engine_load(nvme, &value, sizeof(value));

	if (ret)
		return ret;
	cid = nvme_submit(&nvme->nvme, nvme->queue,
			  nvme_transfer(nvme, NVME_READ, window_address(window, offset), 4));
	ret = act(device);
	nvme_ring(&nvme->nvme, nvme->queue);
	return nvme_completes(&nvme->nvme, nvme->queue, cid, 20000, NULL) ? ret : -ETIMEDOUT;
}

/* QEMU's edu behind vfio (QEMU docs/specs/edu.rst). */
struct edu_engine {
	struct engine engine;
	struct device *device;
	struct memory memory;
};

#define EDU_DMA_SOURCE		0x80
#define EDU_DMA_TARGET		0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_COMMAND		0x98
#define EDU_DMA_START		1
#define EDU_DMA_FROM_DEVICE	2
#define EDU_BUFFER		0x40000

static int edu_dma(struct edu_engine *edu, uint64_t source, uint64_t target, uint64_t count,
		   uint64_t command)
{
	long long end_ms = now_ms() + 20000;
	uint32_t busy;

	device_write(edu->device, 0, EDU_DMA_SOURCE, &source, 8);
	device_write(edu->device, 0, EDU_DMA_TARGET, &target, 8);
	device_write(edu->device, 0, EDU_DMA_COUNT, &count, 8);
	command |= EDU_DMA_START;
	device_write(edu->device, 0, EDU_DMA_COMMAND, &command, 8);
	do {
		sleep_ms(5);
		if (device_read(edu->device, 0, EDU_DMA_COMMAND, &busy, 4))
			return -EIO;
		if (now_ms() > end_ms)
			return -ETIMEDOUT;
	} while (busy & EDU_DMA_START);
	return 0;
}

static int edu_write(struct engine *engine, uint64_t iova, const void *data, uint32_t length)
{
	struct edu_engine *edu = (struct edu_engine *)engine;
	int ret;

	memcpy(edu->memory.at, data, length);
	ret = edu_dma(edu, edu->memory.iova, EDU_BUFFER, length, 0);
	return ret ? ret : edu_dma(edu, EDU_BUFFER, iova, length, EDU_DMA_FROM_DEVICE);
}

static int edu_read(struct engine *engine, uint64_t iova, void *data, uint32_t length)
{
	struct edu_engine *edu = (struct edu_engine *)engine;
	int ret = edu_dma(edu, iova, EDU_BUFFER, length, 0);

	if (!ret)
		ret = edu_dma(edu, EDU_BUFFER, edu->memory.iova, length, EDU_DMA_FROM_DEVICE);
	memcpy(data, edu->memory.at, length);
	return ret;
}

static int edu_engine_start(struct edu_engine *edu, struct device *device)
{
	edu->engine = (struct engine){
		.space = device->space,
		.write = edu_write,
		.read = edu_read,
	};
	edu->device = device;
	return memory_share(&edu->memory, device->space, PAGE);
}

/* QEMU's edu behind the test importer's own driver. */
struct importer_edu {
	uint32_t device;
	uint32_t op;
	uint32_t offset;
	uint32_t length;
	uint64_t data;
};

enum importer_edu_op {
	IMPORTER_EDU_LOAD = 0,
	IMPORTER_EDU_STORE = 1,
	IMPORTER_EDU_WRITE = 2,
	IMPORTER_EDU_READ = 3,
};

#define IMPORTER_EDU	_IOW('V', 11, struct importer_edu)

struct dma_api_edu {
	struct engine engine;
	int fd;
};

static int importer_edu(struct dma_api_edu *edu, uint32_t op, uint32_t length, uint64_t data)
{
	struct importer_edu request = {
		.device = importer_address(edu->engine.bdf),
		.op = op,
		.length = length,
		.data = data,
	};

	return ioctl(edu->fd, IMPORTER_EDU, &request) ? -errno : 0;
}

static int dma_api_edu_write(struct engine *engine, uint64_t iova, const void *data,
			     uint32_t length)
{
	struct dma_api_edu *edu = (struct dma_api_edu *)engine;
	int ret = importer_edu(edu, IMPORTER_EDU_LOAD, length, (uintptr_t)data);

	return ret ? ret : importer_edu(edu, IMPORTER_EDU_WRITE, length, iova);
}

static int dma_api_edu_read(struct engine *engine, uint64_t iova, void *data, uint32_t length)
{
	struct dma_api_edu *edu = (struct dma_api_edu *)engine;
	int ret = importer_edu(edu, IMPORTER_EDU_READ, length, iova);

	return ret ? ret : importer_edu(edu, IMPORTER_EDU_STORE, length, (uintptr_t)data);
}

static int edu_start_by_dma_api(struct dma_api_edu *edu, const char *bdf)
{
	edu->engine = (struct engine){
		.bdf = bdf,
		.write = dma_api_edu_write,
		.read = dma_api_edu_read,
	};
	edu->fd = importer_open();
	return edu->fd < 0 ? edu->fd : pci_bind(bdf, "vfio-harness-importer");
}
