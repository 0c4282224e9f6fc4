// SPDX-License-Identifier: GPL-2.0-only
/* Parts of a process's memory, limits on what it may lock, and what the kernel lists. */
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* Map @length bytes from @start, at *@iova or at an IOVA that was never used. */
static int user_memory_map_part(struct user_memory *memory, struct space *space, uint64_t start,
				uint64_t length, uint64_t *iova)
{
	if (*iova == ANY_IOVA)
		*iova = new_iova(space, length);
	if (memory->fd < 0)
		return ioas_map(space, memory->at + start, length, *iova);
	return ioas_map_file(space, memory->fd, start, length,
			     IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA, iova);
}

/* Map two pages and unmap the first as VFIO_TYPE1_IOMMU does, which splits the area. */
static int user_memory_split(struct user_memory *memory, struct space *space, unsigned int times)
{
	uint64_t iova = new_iova(space, 2 * PAGE);
	long long ret = 0;

	while (times-- && ret >= 0) {
		ret = user_memory_map(memory, space, 2 * PAGE, iova);
		if (ret >= 0)
			ret = ioas_unmap_as_type1(space, iova, PAGE);
		if (ret >= 0)
			ret = ioas_unmap(space, iova + PAGE, PAGE);
	}
	return ret < 0 ? ret : 0;
}

/* Make the pages from @start inaccessible, so that a pin of them fails. */
static int user_memory_forbid(struct user_memory *memory, uint64_t start)
{
	return mprotect(memory->at + start, memory->pages * PAGE - start, PROT_NONE) ? -errno : 0;
}

/* Limit what this process may lock, take CAP_IPC_LOCK from it, and change its user unless 0. */
static int limit_memory(uint64_t pages, uid_t uid)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit = { pages * PAGE, pages * PAGE };

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || syscall(SYS_capget, &header, sets))
		return -errno;
	sets[0].effective &= ~(1u << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, sets))
		return -errno;
	return uid && setresuid(uid, uid, uid) ? -errno : 0;
}

#define IOMMU_IOAS_CHANGE_PROCESS	_IO(';', 0x92)

struct iommu_ioas_change_process {
	uint32_t size;
	uint32_t reserved;
};

static int iommufd_change_process(struct iommufd *iommufd, uint32_t reserved)
{
	struct iommu_ioas_change_process request = {
		.size = sizeof(request),
		.reserved = reserved,
	};

	return ioctl(iommufd->fd, IOMMU_IOAS_CHANGE_PROCESS, &request) ? -errno : 0;
}

/* Return -ENOENT unless debugfs lists a dma-buf with @files references to its file. */
static int must_list_buffer(long files)
{
	FILE *list = fopen("/sys/kernel/debug/dma_buf/bufinfo", "re");
	int ret = -ENOENT;
	char line[512];
	long count;

	if (!list)
		return -errno;
	while (fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%*u %*x %*x %ld", &count) == 1 && count == files)
			ret = 0;
	}
	fclose(list);
	return ret;
}
