// SPDX-License-Identifier: GPL-2.0-only
/* A kernel driver's access to an IO address space, made by the test importer. */
#include <sys/ioctl.h>

#define IMPORTER_ACCESS_MAX	65536
#define IMPORTER_ACCESS_WRITE	0x01

struct importer_access_request {
	int32_t fd;
	uint32_t ioas;
	uint32_t delay_ms;
	uint32_t reserved;
};

struct importer_access_range {
	uint64_t iova;
	uint64_t length;
	uint64_t data;
	uint32_t flags;
	uint32_t reserved;
};

#define IMPORTER_ACCESS		_IOW('V', 18, struct importer_access_request)
#define IMPORTER_ACCESS_PIN	_IOW('V', 19, struct importer_access_range)
#define IMPORTER_ACCESS_UNPIN	_IOW('V', 20, struct importer_access_range)
#define IMPORTER_ACCESS_RW	_IOW('V', 21, struct importer_access_range)

static int access_open(struct attachment *file, struct space *space, uint32_t delay_ms)
{
	struct importer_access_request request = {
		.fd = space->iommufd->fd,
		.ioas = space->id,
		.delay_ms = delay_ms,
	};
	int ret;

	file->fd = importer_open();
	if (file->fd < 0)
		return file->fd;
	if (!ioctl(file->fd, IMPORTER_ACCESS, &request))
		return 0;
	ret = -errno;
	close(file->fd);
	return ret;
}

static uint8_t access_data[IMPORTER_ACCESS_MAX];

static int access_call(struct attachment *file, unsigned long number, uint64_t iova,
		       uint64_t length, bool write)
{
	struct importer_access_range request = {
		.iova = iova,
		.length = length,
		.data = (uintptr_t)access_data,
		.flags = write ? IMPORTER_ACCESS_WRITE : 0,
	};

	return ioctl(file->fd, number, &request) ? -errno : 0;
}

/* Pin pages. Return a digest of their bytes. */
static long long access_pin(struct attachment *file, uint64_t iova, uint64_t length, bool write)
{
	int ret = access_call(file, IMPORTER_ACCESS_PIN, iova, length, write);

	return ret ? ret : digest(access_data, length);
}

static int access_unpin(struct attachment *file, uint64_t iova, uint64_t length)
{
	return access_call(file, IMPORTER_ACCESS_UNPIN, iova, length, false);
}

/* Read bytes, as a digest. */
static long long access_read(struct attachment *file, uint64_t iova, uint64_t length)
{
	int ret = access_call(file, IMPORTER_ACCESS_RW, iova, length, false);

	return ret ? ret : digest(access_data, length);
}

static int access_write(struct attachment *file, uint64_t iova, const char *data, uint64_t length)
{
	memcpy(access_data, data, length);
	return access_call(file, IMPORTER_ACCESS_RW, iova, length, true);
}
