// SPDX-License-Identifier: GPL-2.0-only
/* Memory with the addresses of the kernel's DMA API, through udmabuf and the test importer. */

#define UDMABUF			"/dev/udmabuf"
#define UDMABUF_FLAGS_CLOEXEC	1

struct udmabuf_create {
	uint32_t memfd;
	uint32_t flags;
	uint64_t offset;
	uint64_t size;
};

#define UDMABUF_CREATE		_IOW('u', 0x42, struct udmabuf_create)

static int make_udmabuf(int fd, uint64_t length)
{
	struct udmabuf_create request = {
		.memfd = fd,
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = length,
	};
	int ret = access(UDMABUF, F_OK) ? load_module("udmabuf") : 0;
	int node;

	if (ret)
		return ret;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -errno;
	node = open(UDMABUF, O_RDWR | O_CLOEXEC);
	if (node < 0)
		return -errno;
	ret = ioctl(node, UDMABUF_CREATE, &request);
	if (ret < 0)
		ret = -errno;
	close(node);
	return ret;
}

/* Map a memfd for a device by the DMA API for as long as the program runs. */
static int share_by_dma_api(struct space *space, int fd, uint64_t length, uint64_t *iova)
{
	struct importer_sg_entry entries[64];
	struct attachment attachment;
	int i, count, buffer = make_udmabuf(fd, length);
	uint64_t end_of_last;
	int ret;

	if (buffer < 0)
		return buffer;
	ret = attach(&attachment, space->bdf, buffer, IMPORTER_STATIC, 0);
	if (!ret)
		ret = map(&attachment);
	if (ret)
		return ret;
	count = sg_table(&attachment, entries, ARRAY_SIZE(entries));
	if (count < 0)
		return count;
	*iova = entries[0].address;
	end_of_last = *iova;
	for (i = 0; i < count; i++) {
		if (entries[i].address != end_of_last)
			return -EXDEV;	/* the driver below needs contiguous addresses */
		end_of_last += entries[i].length;
	}
	return 0;
}

static int dma_api_space(struct space *space, const char *bdf)
{
	*space = (struct space){ .bdf = bdf, .share = share_by_dma_api };
	return 0;
}

/* A function without a driver, through sysfs, with memory and bus mastering enabled. */
static int device_open_sysfs(struct device *device, const char *bdf, struct space *space)
{
	uint16_t command;
	int config, ret = pci_unbind(bdf);

	if (!ret)
		ret = dma_api_space(space, bdf);
	if (ret)
		return ret;
	*device = (struct device){ .fd = -1, .wakeup = -1, .space = space };
	config = open(pci_file(bdf, "config"), O_RDWR | O_CLOEXEC);
	if (config < 0 || pread(config, &command, 2, PCI_COMMAND) != 2)
		return -errno;
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(config, &command, 2, PCI_COMMAND) != 2)
		return -errno;
	close(config);
	device->fd = open(pci_file(bdf, "resource0"), O_RDWR | O_CLOEXEC);
	return device->fd < 0 ? -errno : 0;
}
