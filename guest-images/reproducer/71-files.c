// SPDX-License-Identifier: GPL-2.0-only
/* A dma-buf as a file, and other files. Members as in include/uapi/linux/dma-buf.h. */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define DMA_BUF_IOCTL_SYNC	_IOW('b', 0, uint64_t)
#define DMA_BUF_SET_NAME	_IOW('b', 1, uint64_t)

struct dma_buf_sync_file {
	uint32_t flags;
	int32_t fd;
};

#define DMA_BUF_IOCTL_EXPORT_SYNC_FILE	_IOWR('b', 2, struct dma_buf_sync_file)
#define DMA_BUF_IOCTL_IMPORT_SYNC_FILE	_IOW('b', 3, struct dma_buf_sync_file)

static int buffer_status_flags(struct buffer *buffer)
{
	int flags = fcntl(buffer->fd, F_GETFL);

	return flags < 0 ? -errno : flags;
}

static int buffer_cloexec(struct buffer *buffer)
{
	int flags = fcntl(buffer->fd, F_GETFD);

	return flags < 0 ? -errno : flags & FD_CLOEXEC;
}

static int buffer_mmap(struct buffer *buffer, size_t length, bool shared)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
			    shared ? MAP_SHARED : MAP_PRIVATE, buffer->fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	munmap(memory, length);
	return 0;
}

static long long buffer_seek(struct buffer *buffer, off_t offset, int whence)
{
	off_t at = lseek(buffer->fd, offset, whence);

	return at < 0 ? -errno : at;
}

static int buffer_sync(struct buffer *buffer, uint64_t flags)
{
	return ioctl(buffer->fd, DMA_BUF_IOCTL_SYNC, &flags) ? -errno : 0;
}

static int buffer_set_name(struct buffer *buffer, const char *name)
{
	return ioctl(buffer->fd, DMA_BUF_SET_NAME, name) ? -errno : 0;
}

/* Return those of @events that poll() reports within @ms. */
static int buffer_poll(struct buffer *buffer, int events, int ms)
{
	struct pollfd request = { .fd = buffer->fd, .events = events };

	return poll(&request, 1, ms) < 0 ? -errno : request.revents;
}

/* Return 1 if all fences of a sync file are signalled within @ms, and 0 if not. */
static int is_signalled(struct buffer *file, int ms)
{
	int events = buffer_poll(file, POLLIN, ms);

	return events < 0 ? events : events != 0;
}

static int export_sync_file(struct buffer *file, struct buffer *buffer, uint32_t flags)
{
	struct dma_buf_sync_file request = { .flags = flags };

	if (ioctl(buffer->fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request))
		return -errno;
	file->fd = request.fd;
	return 0;
}

static int import_sync_file(struct buffer *buffer, uint32_t flags, struct buffer *file)
{
	struct dma_buf_sync_file request = { .flags = flags, .fd = file->fd };

	return ioctl(buffer->fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &request) ? -errno : 0;
}

/* A counter of sw_sync that signals the fences made of it (drivers/dma-buf/sw_sync.c). */
struct timeline {
	int fd;
};

struct sw_sync_create_fence {
	uint32_t value;
	char name[32];
	int32_t fence;
};

#define SW_SYNC_IOC_CREATE_FENCE	_IOWR('W', 0, struct sw_sync_create_fence)
#define SW_SYNC_IOC_INC			_IOW('W', 1, uint32_t)

static int timeline_open(struct timeline *timeline)
{
	timeline->fd = open("/sys/kernel/debug/sync/sw_sync", O_RDWR | O_CLOEXEC);
	return timeline->fd < 0 ? -errno : 0;
}

static int timeline_fence(struct timeline *timeline, struct buffer *file, uint32_t value)
{
	struct sw_sync_create_fence request = { .value = value, .name = "reproducer" };

	if (ioctl(timeline->fd, SW_SYNC_IOC_CREATE_FENCE, &request))
		return -errno;
	file->fd = request.fence;
	return 0;
}

static int timeline_advance(struct timeline *timeline)
{
	uint32_t count = 1;

	return ioctl(timeline->fd, SW_SYNC_IOC_INC, &count) ? -errno : 0;
}

static int timeline_close(struct timeline *timeline)
{
	return close(timeline->fd) ? -errno : 0;
}

/* Open a file that is no dma-buf. */
static int other_file(struct buffer *file, const char *kind)
{
	if (!strcmp(kind, "none")) {
		file->fd = -1;
		return 0;
	}
	if (!strcmp(kind, "memfd")) {
		file->fd = memfd_create("reproducer", MFD_CLOEXEC);
		if (file->fd >= 0 && ftruncate(file->fd, PAGE))
			return -errno;
	} else if (!strcmp(kind, "eventfd")) {
		file->fd = eventfd(0, EFD_CLOEXEC);
	} else if (!strcmp(kind, "directory")) {
		file->fd = open("/", O_RDONLY | O_CLOEXEC);
	} else {
		file->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	return file->fd < 0 ? -errno : 0;
}
