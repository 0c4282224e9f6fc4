// SPDX-License-Identifier: GPL-2.0-only
/* iommufd, and memory that devices access through it. Members as in include/uapi/linux/iommufd.h. */
#include <sys/ioctl.h>
#include <sys/mman.h>

#define IOMMU_IOAS_MAP_FIXED_IOVA	1
#define IOMMU_IOAS_MAP_WRITEABLE	2
#define IOMMU_IOAS_MAP_READABLE		4

#define IOMMU_DESTROY			_IO(';', 0x80)
#define IOMMU_IOAS_ALLOC		_IO(';', 0x81)
#define IOMMU_IOAS_COPY			_IO(';', 0x83)
#define IOMMU_IOAS_MAP			_IO(';', 0x85)
#define IOMMU_IOAS_UNMAP		_IO(';', 0x86)
#define IOMMU_OPTION			_IO(';', 0x87)
#define IOMMU_HWPT_ALLOC		_IO(';', 0x89)
#define IOMMU_OPTION_HUGE_PAGES		1
#define IOMMU_IOAS_MAP_FILE		_IO(';', 0x8f)

struct iommu_destroy {
	uint32_t size;
	uint32_t id;
};

struct iommu_ioas_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t out_ioas_id;
};

struct iommu_ioas_map {
	uint32_t size;
	uint32_t flags;
	uint32_t ioas_id;
	uint32_t reserved;
	uint64_t user_va;
	uint64_t length;
	uint64_t iova;
};

struct iommu_ioas_map_file {
	uint32_t size;
	uint32_t flags;
	uint32_t ioas_id;
	int32_t fd;
	uint64_t start;
	uint64_t length;
	uint64_t iova;
};

struct iommu_ioas_copy {
	uint32_t size;
	uint32_t flags;
	uint32_t dst_ioas_id;
	uint32_t src_ioas_id;
	uint64_t length;
	uint64_t dst_iova;
	uint64_t src_iova;
};

struct iommu_ioas_unmap {
	uint32_t size;
	uint32_t ioas_id;
	uint64_t iova;
	uint64_t length;
};

struct iommu_option {
	uint32_t size;
	uint32_t option_id;
	uint16_t op;
	uint16_t reserved;
	uint32_t object_id;
	uint64_t val64;
};

struct iommu_hwpt_alloc {
	uint32_t size;
	uint32_t flags;
	uint32_t dev_id;
	uint32_t pt_id;
	uint32_t out_hwpt_id;
	uint32_t reserved;
	uint32_t data_type;
	uint32_t data_len;
	uint64_t data_uptr;
	uint32_t fault_id;
	uint32_t reserved2;
};

/* Above all BARs and guest memory, and below 512 GiB, the limit of a 39-bit IOMMU. */
#define FIRST_IOVA	(256ull << 30)
#define LAST_IOVA	(384ull << 30)
#define IOVA_ALIGNMENT	(2ull << 20)

struct iommufd {
	int fd;
};

/*
 * Where the DMA addresses of a device's memory come from: an IO address space of
 * iommufd, or, if @iommufd is NULL, the DMA API through @share().
 */
struct space {
	struct iommufd *iommufd;
	uint32_t id;
	uint64_t next_iova;
	int (*share)(struct space *space, int fd, uint64_t length, uint64_t *iova);
	const char *bdf;
};

static int iommufd_open(struct iommufd *iommufd)
{
	iommufd->fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	return iommufd->fd < 0 ? -errno : 0;
}

static int iommufd_close(struct iommufd *iommufd)
{
	return close(iommufd->fd) ? -errno : 0;
}

static int iommufd_destroy(struct iommufd *iommufd, uint32_t id)
{
	struct iommu_destroy request = { .size = sizeof(request), .id = id };

	return ioctl(iommufd->fd, IOMMU_DESTROY, &request) ? -errno : 0;
}

static int ioas_alloc(struct space *space, struct iommufd *iommufd)
{
	struct iommu_ioas_alloc request = { .size = sizeof(request) };

	*space = (struct space){ .iommufd = iommufd, .next_iova = FIRST_IOVA };
	if (ioctl(iommufd->fd, IOMMU_IOAS_ALLOC, &request))
		return -errno;
	space->id = request.out_ioas_id;
	return 0;
}

static int ioas_destroy(struct space *space)
{
	return iommufd_destroy(space->iommufd, space->id);
}

/* Let new_iova() return no IOVA of a range that the program chose. */
static void keep_iova(struct space *space, uint64_t iova, uint64_t length)
{
	uint64_t last = iova + length;

	if (iova >= space->next_iova && last > iova && iova < LAST_IOVA)
		space->next_iova = (last + IOVA_ALIGNMENT - 1) & ~(IOVA_ALIGNMENT - 1);
}

/* Return an IOVA that was never used, so that a stale one faults. */
static uint64_t new_iova(struct space *space, uint64_t length)
{
	uint64_t iova = space->next_iova;

	space->next_iova += (length + IOVA_ALIGNMENT - 1) & ~(IOVA_ALIGNMENT - 1);
	return iova;
}

#define IOMMU_READ_WRITE	(IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)
#define ANY_IOVA		(UINT64_MAX - 1)	/* no case uses it */

static int ioas_map(struct space *space, void *memory, uint64_t length, uint64_t iova)
{
	struct iommu_ioas_map request = {
		.size = sizeof(request),
		.flags = IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.ioas_id = space->id,
		.user_va = (uintptr_t)memory,
		.length = length,
		.iova = iova,
	};

	return ioctl(space->iommufd->fd, IOMMU_IOAS_MAP, &request) ? -errno : 0;
}

/* Map part of a file at *@iova, or at an IOVA that was never used. */
static int ioas_map_file(struct space *space, int fd, uint64_t start, uint64_t length,
			 uint32_t flags, uint64_t *iova)
{
	struct iommu_ioas_map_file request = {
		.size = sizeof(request),
		.flags = flags,
		.ioas_id = space->id,
		.fd = fd,
		.start = start,
		.length = length,
		.iova = *iova == ANY_IOVA ? new_iova(space, length) : *iova,
	};

	if (ioctl(space->iommufd->fd, IOMMU_IOAS_MAP_FILE, &request))
		return -errno;
	keep_iova(space, request.iova, length);
	*iova = request.iova;
	return 0;
}

static int ioas_copy(struct space *space, struct space *source, uint64_t source_iova,
		     uint64_t length, uint32_t flags, uint64_t *iova)
{
	struct iommu_ioas_copy request = {
		.size = sizeof(request),
		.flags = flags,
		.dst_ioas_id = space->id,
		.src_ioas_id = source->id,
		.length = length,
		.dst_iova = *iova == ANY_IOVA ? new_iova(space, length) : *iova,
		.src_iova = source_iova,
	};

	if (ioctl(space->iommufd->fd, IOMMU_IOAS_COPY, &request))
		return -errno;
	keep_iova(space, request.dst_iova, length);
	*iova = request.dst_iova;
	return 0;
}

static int ioas_unmap(struct space *space, uint64_t iova, uint64_t length)
{
	struct iommu_ioas_unmap request = {
		.size = sizeof(request),
		.ioas_id = space->id,
		.iova = iova,
		.length = length,
	};

	return ioctl(space->iommufd->fd, IOMMU_IOAS_UNMAP, &request) ? -errno : 0;
}

static int ioas_set_huge_pages(struct space *space, bool on)
{
	struct iommu_option request = {
		.size = sizeof(request),
		.option_id = IOMMU_OPTION_HUGE_PAGES,
		.object_id = space->id,
		.val64 = on,
	};

	return ioctl(space->iommufd->fd, IOMMU_OPTION, &request) ? -errno : 0;
}

/* Whole pages of this process that devices in a space access at @iova. */
struct memory {
	uint8_t *at;
	uint64_t iova;
};

static int memory_share(struct memory *memory, struct space *space, uint64_t length)
{
	int fd = memfd_create("reproducer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	length = (length + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	if (fd < 0 || ftruncate(fd, length))
		return -errno;
	memory->at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory->at == MAP_FAILED)
		return -errno;
	if (space->share)
		return space->share(space, fd, length, &memory->iova);
	close(fd);
	memory->iova = new_iova(space, length);
	return ioas_map(space, memory->at, length, memory->iova);
}
