// SPDX-License-Identifier: GPL-2.0-only
/* More of the test importer: buffers of the RDMA core, and directions of a mapping. */
#include <sys/ioctl.h>

#define IMPORTER_NOT_PCI	0x10

enum importer_umem_kind {
	IMPORTER_UMEM_REVOCABLE = 0,
	IMPORTER_UMEM_PINNED = 1,
	IMPORTER_UMEM_DYNAMIC = 2,
};

enum dma_data_direction {
	DMA_TO_DEVICE = 1,
	DMA_FROM_DEVICE = 2,
};

struct importer_umem {
	uint64_t offset;
	uint64_t length;
	int32_t fd;
	uint32_t device;
	uint32_t flags;
	uint32_t kind;
	uint32_t access;
	uint32_t reserved;
};

#define IMPORTER_UMEM		_IOW('V', 16, struct importer_umem)
#define IMPORTER_REVOKE		_IO('V', 17)

/* Import as an RDMA driver does, for the device at @bdf, or for one that is not PCI. */
static int umem_get(struct attachment *umem, const char *bdf, int fd, uint64_t offset,
		    uint64_t length, enum importer_umem_kind kind, uint32_t access)
{
	struct importer_umem request = {
		.offset = offset,
		.length = length,
		.fd = fd,
		.device = bdf ? importer_address(bdf) : 0,
		.flags = bdf ? 0 : IMPORTER_NOT_PCI,
		.kind = kind,
		.access = access,
	};
	int ret;

	umem->fd = importer_open();
	if (umem->fd < 0)
		return umem->fd;
	if (!ioctl(umem->fd, IMPORTER_UMEM, &request))
		return 0;
	ret = -errno;
	close(umem->fd);
	return ret;
}

static int umem_revoke(struct attachment *umem)
{
	return ioctl(umem->fd, IMPORTER_REVOKE) < 0 ? -errno : 0;
}

static int map_in_direction(struct attachment *attachment, enum dma_data_direction direction)
{
	return ioctl(attachment->fd, IMPORTER_MAP, direction) < 0 ? -errno : 0;
}

/* Detach, and keep the file open. */
static int leave_buffer(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_DETACH) < 0 ? -errno : 0;
}

/* Attach and detach again and again. Return the last errno, or 0. */
static int attach_repeatedly(const char *bdf, int fd, uint32_t flags, unsigned int times)
{
	struct attachment attachment;
	int ret = 0;

	while (times--) {
		ret = attach(&attachment, bdf, fd, flags, 0);
		if (!ret)
			ret = detach(&attachment);
	}
	return -ret;
}
