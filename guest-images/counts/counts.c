// SPDX-License-Identifier: GPL-2.0-only
/*
 * Count the instructions of exports, maps and revokes, for few and for many
 * ranges, importers and buffers. The runtime of reproducers goes in front of it
 * (guest-images/reproducer). With QEMU's -icount shift=0 the TSC counts
 * instructions, so the counts do not depend on the host.
 *
 * Each line is "# count <what> <number> <instructions>".
 */

#define REPEATS		3
#define MOST		1000

static const uint32_t numbers[] = { 1, 10, 100, MOST };

static struct iommufd counted_iommufd;
static struct space counted_space;
static struct device exporter;
static char importer[32];
static struct attachment attachments[MOST];
static struct buffer buffers[MOST];
static struct vfio_region_dma_range count_ranges[MOST];

static void check(int result)
{
	if (result < 0)
		end(NOT_RUN, "each call succeeds", "%s", error_name(-result));
}

static uint64_t instructions(void)
{
	return __builtin_ia32_rdtsc();
}

/* Find the @index-th PCI device of a class, in the order of their addresses. */
static int find_device(const char *class, int index, char *bdf, size_t room)
{
	struct dirent **entries;
	int i, found = -ENODEV, count = scandir("/sys/bus/pci/devices", &entries, NULL, alphasort);

	for (i = 0; i < count; i++) {
		char text[32] = "";

		if (found && !read_file(pci_file(entries[i]->d_name, "class"), text, sizeof(text)) &&
		    !strncmp(text, class, strlen(class)) && !index--) {
			snprintf(bdf, room, "%.31s", entries[i]->d_name);
			found = 0;
		}
		free(entries[i]);
	}
	return found;
}

static int export_ranges(struct buffer *buffer, uint32_t count)
{
	return device_export(&exporter, buffer, 2, count_ranges, count);
}

static int attach_and_map(struct attachment *attachment, struct buffer *buffer)
{
	int ret = attach(attachment, importer, buffer->fd, IMPORTER_PEER2PEER | IMPORTER_CALLBACK,
			 0);

	return ret ? ret : map(attachment);
}

/* Revoke by COMMAND.MEM, and undo it. Return what the revoke cost. */
static uint64_t cost_of_revoke(void)
{
	uint64_t began = instructions(), cost;
	int ret = device_set_memory(&exporter, false);

	cost = instructions() - began;
	if (!ret)
		ret = device_set_memory(&exporter, true);
	check(ret);
	return cost;
}

enum cost { EXPORT, MAP, REVOKE, COSTS };

static const char *const cost_names[COSTS] = { "export", "map", "revoke" };

/* One buffer of @count ranges, with one importer. */
static void count_of_ranges(uint32_t count, uint64_t *costs)
{
	uint64_t began = instructions();
	int ret = export_ranges(&buffers[0], count);

	costs[EXPORT] = instructions() - began;
	check(ret);
	check(attach(&attachments[0], importer, buffers[0].fd,
		     IMPORTER_PEER2PEER | IMPORTER_CALLBACK, 0));
	began = instructions();
	ret = map(&attachments[0]);
	costs[MAP] = instructions() - began;
	check(ret);
	costs[REVOKE] = cost_of_revoke();
	check(detach(&attachments[0]));
	check(buffer_close(&buffers[0]));
}

/* One buffer of one range, with @count importers. */
static void count_of_importers(uint32_t count, uint64_t *costs)
{
	uint64_t began;
	uint32_t i;
	int ret = export_ranges(&buffers[0], 1);

	for (i = 0; i < count && ret >= 0; i++)
		ret = attach(&attachments[i], importer, buffers[0].fd,
			     IMPORTER_PEER2PEER | IMPORTER_CALLBACK, 0);
	began = instructions();
	for (i = 0; i < count && ret >= 0; i++)
		ret = map(&attachments[i]);
	costs[MAP] = instructions() - began;
	check(ret);
	costs[REVOKE] = cost_of_revoke();
	for (i = 0; i < count; i++)
		detach(&attachments[i]);
	check(buffer_close(&buffers[0]));
}

/* @count buffers of one range, each with one importer. */
static void count_of_buffers(uint32_t count, uint64_t *costs)
{
	uint64_t began = instructions();
	uint32_t i;
	int ret = 0;

	for (i = 0; i < count && ret >= 0; i++)
		ret = export_ranges(&buffers[i], 1);
	costs[EXPORT] = instructions() - began;
	check(ret);
	for (i = 0; i < count && ret >= 0; i++)
		ret = attach_and_map(&attachments[i], &buffers[i]);
	check(ret);
	costs[REVOKE] = cost_of_revoke();
	for (i = 0; i < count; i++) {
		detach(&attachments[i]);
		buffer_close(&buffers[i]);
	}
}

static const struct {
	const char *of;
	void (*count)(uint32_t count, uint64_t *costs);
} measurements[] = {
	{ "ranges", count_of_ranges },
	{ "importers", count_of_importers },
	{ "buffers", count_of_buffers },
};

/* The least of some repeats: interrupts add instructions, and nothing takes any away. */
static void count_all(size_t measurement, uint32_t number)
{
	uint64_t least[COSTS] = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
	int repeat, cost;

	for (repeat = 0; repeat < REPEATS; repeat++) {
		uint64_t costs[COSTS] = { UINT64_MAX, UINT64_MAX, UINT64_MAX };

		measurements[measurement].count(number, costs);
		for (cost = 0; cost < COSTS; cost++) {
			if (costs[cost] < least[cost])
				least[cost] = costs[cost];
		}
	}
	for (cost = 0; cost < COSTS; cost++) {
		if (least[cost] != UINT64_MAX)
			say("# count %s-of-%s %u %llu", cost_names[cost],
			    measurements[measurement].of, number,
			    (unsigned long long)least[cost]);
	}
}

static void program(void)
{
	struct rlimit files = { .rlim_cur = 4 * MOST, .rlim_max = 4 * MOST };
	char bdf[32];
	size_t i, j;

	need(setrlimit(RLIMIT_NOFILE, &files));
	need(find_device("0x010802", 0, bdf, sizeof(bdf)));
	need(find_device("0x020000", 1, importer, sizeof(importer)));
	need(iommufd_open(&counted_iommufd));
	need(ioas_alloc(&counted_space, &counted_iommufd));
	need(device_open(&exporter, bdf, &counted_space, NULL));
	for (i = 0; i < MOST; i++)
		count_ranges[i] = (struct vfio_region_dma_range){ i * PAGE, PAGE };
	for (i = 0; i < ARRAY_SIZE(measurements); i++) {
		for (j = 0; j < ARRAY_SIZE(numbers); j++)
			count_all(i, numbers[j]);
	}
}
