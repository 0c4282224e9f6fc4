// SPDX-License-Identifier: GPL-2.0-only
/*
 * The test importer, a kernel module that attaches any PCI device to a dma-buf
 * (vfio-harness, guest-images/importer/uapi.h).
 */
#include <sys/sysmacros.h>

#define IMPORTER_NODE		"/dev/vfio-harness-importer"
#define IMPORTER_STATIC		0x01
#define IMPORTER_PEER2PEER	0x02
#define IMPORTER_CALLBACK	0x04
#define IMPORTER_REMAP		0x08
#define IMPORTER_UNLOCKED	0x20
#define IMPORTER_EVENTS		256
#define DMA_BIDIRECTIONAL	0

enum dma_resv_usage {
	DMA_RESV_USAGE_KERNEL = 0,
	DMA_RESV_USAGE_WRITE = 1,
	DMA_RESV_USAGE_READ = 2,
	DMA_RESV_USAGE_BOOKKEEP = 3,
};

struct importer_attach {
	int32_t fd;
	uint32_t device;
	uint32_t flags;
	uint32_t delay_ms;
};

struct importer_sg_entry {
	uint64_t address;
	uint64_t length;
	uint32_t cpu_offset;
	uint32_t cpu_length;
	uint32_t flags;
	uint32_t reserved;
};

struct importer_sg_table {
	uint64_t entries;
	uint32_t capacity;
	uint32_t nents;
	uint32_t orig_nents;
	uint32_t reserved;
};

struct importer_event {
	uint64_t time_ns;
	uint32_t kind;
	int32_t result;
	uint32_t task;
	uint32_t reserved;
};

struct importer_log {
	uint64_t events;
	uint32_t capacity;
	uint32_t event_count;
	uint32_t notified;
	uint32_t mapped;
};

struct importer_wait {
	uint32_t notified;
	uint32_t timeout_ms;
};

#define IMPORTER_ATTACH		_IOW('V', 0, struct importer_attach)
#define IMPORTER_DETACH		_IO('V', 1)
#define IMPORTER_MAP		_IO('V', 2)
#define IMPORTER_UNMAP		_IO('V', 3)
#define IMPORTER_PIN		_IO('V', 4)
#define IMPORTER_UNPIN		_IO('V', 5)
#define IMPORTER_RELEASE	_IO('V', 6)
#define IMPORTER_TABLE		_IOWR('V', 7, struct importer_sg_table)
#define IMPORTER_LOG		_IOWR('V', 8, struct importer_log)
#define IMPORTER_FENCE		_IO('V', 9)
#define IMPORTER_SIGNAL		_IO('V', 10)
#define IMPORTER_WAIT		_IOW('V', 22, struct importer_wait)

struct attachment {
	int fd;
};

static int importer_open(void)
{
	int fd, ret = access(IMPORTER_NODE, F_OK) ? load_module("vfio_harness_importer") : 0;

	if (ret)
		return ret;
	fd = open(IMPORTER_NODE, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static uint32_t importer_address(const char *bdf)
{
	unsigned int domain = 0, bus = 0, slot = 0, function = 0;

	if (sscanf(bdf, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return 0;
	return domain << 16 | bus << 8 | slot << 3 | function;
}

/* Attach the device at @bdf to a dma-buf. */
static int attach(struct attachment *attachment, const char *bdf, int fd, uint32_t flags,
		  uint32_t delay_ms)
{
	struct importer_attach request = {
		.fd = fd,
		.device = importer_address(bdf),
		.flags = flags,
		.delay_ms = delay_ms,
	};
	int ret;

	attachment->fd = importer_open();
	if (attachment->fd < 0)
		return attachment->fd;
	if (!ioctl(attachment->fd, IMPORTER_ATTACH, &request))
		return 0;
	ret = -errno;
	close(attachment->fd);
	return ret;
}

static int map(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_MAP, DMA_BIDIRECTIONAL) < 0 ? -errno : 0;
}

static int unmap(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_UNMAP) < 0 ? -errno : 0;
}

static int pin(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_PIN) < 0 ? -errno : 0;
}

static int unpin(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_UNPIN) < 0 ? -errno : 0;
}

static int release(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_RELEASE) < 0 ? -errno : 0;
}

/* Put an unsignalled fence on the buffer. */
static int fence(struct attachment *attachment, enum dma_resv_usage usage)
{
	return ioctl(attachment->fd, IMPORTER_FENCE, usage) < 0 ? -errno : 0;
}

static int signal_fence(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_SIGNAL) < 0 ? -errno : 0;
}

static int detach(struct attachment *attachment)
{
	return close_once(&attachment->fd);
}

/* Map and unmap again and again. */
static int map_cycle(struct attachment *attachment, unsigned int count)
{
	int ret = 0;

	while (count-- && !ret) {
		ret = map(attachment);
		if (!ret)
			ret = unmap(attachment);
	}
	return ret;
}

static int is_mapped(struct attachment *attachment)
{
	struct importer_log request = { 0 };

	return ioctl(attachment->fd, IMPORTER_LOG, &request) ? -errno : (int)request.mapped;
}

/* Print the attachment's events. */
static int print_events(struct attachment *attachment)
{
	static const char *const kinds[] = { "?", "notified", "mapped", "unmapped" };
	struct importer_event events[IMPORTER_EVENTS];
	struct importer_log request = { .events = (uintptr_t)events, .capacity = IMPORTER_EVENTS };
	uint32_t i;

	if (ioctl(attachment->fd, IMPORTER_LOG, &request))
		return -errno;
	for (i = 0; i < request.event_count && i < IMPORTER_EVENTS; i++)
		say("#   %s: %d", kinds[events[i].kind & 3], events[i].result);
	return request.event_count;
}

/* Return 1 once the callback has run @count times, and 0 after @ms. */
static int wait_notified(struct attachment *attachment, uint32_t count, uint32_t ms)
{
	struct importer_wait request = { .notified = count, .timeout_ms = ms };
	int ret = ioctl(attachment->fd, IMPORTER_WAIT, &request);

	return ret < 0 ? -errno : ret;
}

/* Return the number of entries of the mapping's SG table, and up to @capacity of them. */
static int sg_table(struct attachment *attachment, struct importer_sg_entry *entries,
		    uint32_t capacity)
{
	struct importer_sg_table request = {
		.entries = (uintptr_t)entries,
		.capacity = capacity,
	};

	return ioctl(attachment->fd, IMPORTER_TABLE, &request) ? -errno : (int)request.nents;
}

/* Return the DMA address of the mapping's first byte in pages, or a negative errno. */
static long long first_page(struct attachment *attachment)
{
	struct importer_sg_entry entry;
	int ret = sg_table(attachment, &entry, 1);

	return ret < 0 ? ret : (long long)(entry.address / PAGE);
}
