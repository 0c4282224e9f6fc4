// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's counters of memory, and allocations that fail. */

/* Return the kernel's unreclaimable slab memory in bytes. */
static long long slab(void)
{
	char line[128];
	long long kib = -ENOENT;
	FILE *file = fopen("/proc/meminfo", "re");

	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "SUnreclaim: %lld kB", &kib) == 1)
			break;
	}
	fclose(file);
	return kib < 0 ? kib : kib << 10;
}

/* Return the pages that are pinned in the whole kernel, or minus as many as were unpinned twice. */
static long long pins(void)
{
	long long value, acquired = 0, released = 0;
	char line[128];
	FILE *file;

	write_file("/proc/sys/vm/stat_refresh", "1");
	file = fopen("/proc/vmstat", "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "nr_foll_pin_acquired %lld", &value) == 1)
			acquired = value;
		if (sscanf(line, "nr_foll_pin_released %lld", &value) == 1)
			released = value;
	}
	fclose(file);
	return acquired - released;
}

/*
 * Let every allocation fail that is asked to (Documentation/fault-injection).
 * End as not able to show the bug if the kernel has no fault injection. Return
 * the file that chooses the calling thread's: to open it takes allocations.
 */
static int let_allocations_fail(void)
{
	int ret = write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");

	if (ret < 0)
		end(NOT_ABLE, "the kernel can let an allocation fail",
		    "failslab: %s; CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS, as of the flavour debug, are needed",
		    error_name(-ret));
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	return open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
}

/* Fail the n-th allocation of the thread that opened @fd, from now on. */
static void fail_nth(int fd, unsigned int n)
{
	dprintf(fd, "%u", n);
}

/* Let no more allocations fail. Return true if the one that fail_nth() chose has failed. */
static bool allocation_failed(int fd)
{
	bool failed;
	char digit;

	failed = pread(fd, &digit, 1, 0) == 1 && digit == '0';
	fail_nth(fd, 0);
	return failed;
}

/* Pages of this process, or of a memfd. Every second page is next to its neighbour's neighbour. */
struct user_memory {
	int fd;
	uint8_t *at;
	uint64_t pages;
};

static int user_memory(struct user_memory *memory, uint64_t pages, bool in_file)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	uint64_t page;

	memory->fd = -1;
	memory->pages = pages;
	if (in_file) {
		flags = MAP_SHARED;
		memory->fd = memfd_create("reproducer", MFD_CLOEXEC);
		if (memory->fd < 0 || ftruncate(memory->fd, pages * PAGE))
			return -errno;
	}
	memory->at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, memory->fd, 0);
	if (memory->at == MAP_FAILED)
		return -errno;
	/* The kernel allocates pages in the order of their first use. */
	for (page = 0; page < pages; page += 2)
		memset(memory->at + page * PAGE, page, PAGE);
	for (page = 1; page < pages; page += 2)
		memset(memory->at + page * PAGE, page, PAGE);
	return 0;
}

static int user_memory_map(struct user_memory *memory, struct space *space, uint64_t length,
			   uint64_t iova)
{
	if (memory->fd < 0)
		return ioas_map(space, memory->at, length, iova);
	return ioas_map_file(space, memory->fd, 0, length,
			     IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA, &iova);
}

/* Map with the first allocation failing, then with the second, and so on. Return how many failed. */
static int map_memory_without_memory(struct user_memory *memory, struct space *space,
				     uint64_t length, uint64_t iova)
{
	unsigned int n, refused = 0;
	int fd = let_allocations_fail();
	bool failed = true;

	for (n = 1; failed && n < 1000; n++) {
		int ret;

		fail_nth(fd, n);
		ret = user_memory_map(memory, space, length, iova);
		failed = allocation_failed(fd);
		if (ret)
			refused++;
		else
			ioas_unmap(space, iova, length);
	}
	close(fd);
	return refused;
}
