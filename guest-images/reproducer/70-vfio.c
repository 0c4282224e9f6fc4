// SPDX-License-Identifier: GPL-2.0-only
/* A vfio-pci device. Members as in include/uapi/linux/vfio.h. */
#include <dirent.h>
#include <sys/eventfd.h>

#define VFIO_DEVICE_GET_REGION_INFO	_IO(';', 108)
#define VFIO_DEVICE_RESET		_IO(';', 111)
#define VFIO_DEVICE_PCI_HOT_RESET	_IO(';', 113)
#define VFIO_DEVICE_FEATURE		_IO(';', 117)
#define VFIO_DEVICE_BIND_IOMMUFD	_IO(';', 118)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT	_IO(';', 119)
#define VFIO_DEVICE_DETACH_IOMMUFD_PT	_IO(';', 120)

#define VFIO_DEVICE_BIND_FLAG_TOKEN	1
#define VFIO_PCI_CONFIG_REGION_INDEX	7

#define VFIO_DEVICE_FEATURE_GET		(1 << 16)
#define VFIO_DEVICE_FEATURE_SET		(1 << 17)
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY			3
#define VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP		4
#define VFIO_DEVICE_FEATURE_LOW_POWER_EXIT			5
#define VFIO_DEVICE_FEATURE_DMA_BUF				11

#define PCI_COMMAND			0x04
#define PCI_COMMAND_MEMORY		0x2
#define PCI_COMMAND_MASTER		0x4
#define PCI_CAPABILITY_LIST		0x34
#define PCI_CAP_ID_PM			0x01
#define PCI_PM_CTRL			4
#define PCI_PM_CTRL_STATE_MASK		0x3
#define PCI_CAP_ID_EXP			0x10
#define PCI_EXP_DEVCTL			8
#define PCI_EXP_DEVCTL_BCR_FLR		0x8000

struct vfio_region_info {
	uint32_t argsz;
	uint32_t flags;
	uint32_t index;
	uint32_t cap_offset;
	uint64_t size;
	uint64_t offset;
};

struct vfio_device_feature {
	uint32_t argsz;
	uint32_t flags;
};

struct vfio_device_bind_iommufd {
	uint32_t argsz;
	uint32_t flags;
	int32_t iommufd;
	uint32_t out_devid;
	uint64_t token_uuid_ptr;
};

struct vfio_device_attach_iommufd_pt {
	uint32_t argsz;
	uint32_t flags;
	uint32_t pt_id;
};

struct vfio_device_detach_iommufd_pt {
	uint32_t argsz;
	uint32_t flags;
};

struct vfio_pci_hot_reset {
	uint32_t argsz;
	uint32_t flags;
	uint32_t count;
};

struct vfio_region_dma_range {
	uint64_t offset;
	uint64_t length;
};

struct device {
	int fd;
	uint32_t id;
	int wakeup;
	struct space *space;
	uint64_t offsets[VFIO_PCI_CONFIG_REGION_INDEX + 1];
};

struct buffer {
	int fd;
};

static int region_offsets(struct device *device)
{
	uint32_t index;

	for (index = 0; index <= VFIO_PCI_CONFIG_REGION_INDEX; index++) {
		struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

		if (ioctl(device->fd, VFIO_DEVICE_GET_REGION_INFO, &info))
			return -errno;
		device->offsets[index] = info.offset;
	}
	return 0;
}

static int device_read(struct device *device, int region, uint64_t offset, void *data,
		       size_t length)
{
	ssize_t n = pread(device->fd, data, length, device->offsets[region] + offset);

	return n < 0 ? -errno : 0;
}

static int device_write(struct device *device, int region, uint64_t offset, const void *data,
			size_t length)
{
	ssize_t n = pwrite(device->fd, data, length, device->offsets[region] + offset);

	return n < 0 ? -errno : 0;
}

/* Read up to 8 bytes of a region as a number. */
static long long device_load(struct device *device, int region, uint64_t offset, size_t length)
{
	long long value = 0;
	int ret = device_read(device, region, offset, &value, length);

	return ret ? ret : value;
}

/* Write the same byte @length times, a page at a time. */
static int device_fill(struct device *device, int region, uint64_t offset, int value,
		       size_t length)
{
	uint8_t page[PAGE];
	int ret = 0;

	memset(page, value, sizeof(page));
	while (length && !ret) {
		size_t count = length < sizeof(page) ? length : sizeof(page);

		ret = device_write(device, region, offset, page, count);
		offset += count;
		length -= count;
	}
	return ret;
}

/* Change bits of a 16-bit register of config space by one write. */
static int change_config(struct device *device, uint64_t offset, uint16_t clear, uint16_t set)
{
	uint16_t word;
	int ret = device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, offset, &word, 2);

	word = (word & ~clear) | set;
	return ret ? ret : device_write(device, VFIO_PCI_CONFIG_REGION_INDEX, offset, &word, 2);
}

/* Return the offset of a capability. */
static int capability(struct device *device, uint8_t id)
{
	uint8_t at = 0, head[2];
	int budget = 48;	/* a broken device's list may loop */
	int ret;

	ret = device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_CAPABILITY_LIST, &at, 1);
	while (!ret && at && budget--) {
		ret = device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, at, head, 2);
		if (!ret && head[0] == id)
			return at;
		at = head[1];
	}
	return ret ? ret : -ENOENT;
}

static int device_set_memory(struct device *device, bool on)
{
	return change_config(device, PCI_COMMAND, PCI_COMMAND_MEMORY, on ? PCI_COMMAND_MEMORY : 0);
}

/* Revoke the device's buffers, and make it usable at once. */
static int device_revoke(struct device *device)
{
	int ret = device_set_memory(device, false);

	return ret ? ret : device_set_memory(device, true);
}

static int device_set_master(struct device *device, bool on)
{
	return change_config(device, PCI_COMMAND, PCI_COMMAND_MASTER, on ? PCI_COMMAND_MASTER : 0);
}

/* Return COMMAND, as vfio shows it. */
static int device_command(struct device *device)
{
	uint16_t word;
	int ret = device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, &word, 2);

	return ret ? ret : word;
}

/* Write PMCSR: 0 for D0 to 3 for D3hot. */
static int device_set_power_state(struct device *device, uint16_t state)
{
	int at = capability(device, PCI_CAP_ID_PM);

	return at < 0 ? at : change_config(device, at + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK, state);
}

/* Reset the function by its PCI Express capability. */
static int device_flr(struct device *device)
{
	int at = capability(device, PCI_CAP_ID_EXP);

	return at < 0 ? at : change_config(device, at + PCI_EXP_DEVCTL, 0, PCI_EXP_DEVCTL_BCR_FLR);
}

/* Return the offset of a register by its name. */
static int config_register(struct device *device, const char *name)
{
	int at;

	if (!strcmp(name, "COMMAND"))
		return PCI_COMMAND;
	if (!strcmp(name, "PMCSR")) {
		at = capability(device, PCI_CAP_ID_PM);
		return at < 0 ? at : at + PCI_PM_CTRL;
	}
	at = capability(device, PCI_CAP_ID_EXP);
	return at < 0 ? at : at + PCI_EXP_DEVCTL;
}

/*
 * Change bits of a 16-bit register by one write of @length bytes, up to 8, that
 * begins @before bytes before the register. Its other bytes keep their value.
 */
static int modify_config(struct device *device, const char *name, int before, size_t length,
			 uint16_t clear, uint16_t set)
{
	int at = config_register(device, name), i, ret;
	uint8_t data[8], word[2];
	uint16_t value;

	if (at < 0)
		return at;
	ret = device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, at - before, data, length);
	if (!ret)
		ret = device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, at, &value, 2);
	if (ret)
		return ret;
	value = (value & ~clear) | set;
	memcpy(word, &value, 2);
	for (i = 0; i < 2; i++) {
		if (before + i >= 0 && before + i < (int)length)
			data[before + i] = word[i];
	}
	return device_write(device, VFIO_PCI_CONFIG_REGION_INDEX, at - before, data, length);
}

static int open_cdev(const char *bdf)
{
	char path[128];
	struct dirent *entry;
	DIR *dir;
	int fd = -ENOENT;

	dir = opendir(pci_file(bdf, "vfio-dev"));
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) && fd == -ENOENT) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/vfio/devices/%.64s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	closedir(dir);
	return fd;
}

static int device_enter(struct device *device, uint32_t id)
{
	struct vfio_device_attach_iommufd_pt request = { .argsz = sizeof(request), .pt_id = id };

	return ioctl(device->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request) ? -errno : 0;
}

/* @token: the PCI VF token's 16 bytes, or NULL. */
static int bind_iommufd(struct device *device, const char *token)
{
	struct vfio_device_bind_iommufd request = {
		.argsz = token ? sizeof(request) : 16,
		.flags = token ? VFIO_DEVICE_BIND_FLAG_TOKEN : 0,
		.iommufd = device->space->iommufd->fd,
		.token_uuid_ptr = (uintptr_t)token,
	};

	if (ioctl(device->fd, VFIO_DEVICE_BIND_IOMMUFD, &request))
		return -errno;
	device->id = request.out_devid;
	return 0;
}

/* Open a device by its character device, and let it enter @space. */
static int device_open(struct device *device, const char *bdf, struct space *space,
		       const char *token)
{
	int ret = pci_bind(bdf, "vfio-pci");

	*device = (struct device){ .space = space, .wakeup = -1 };
	if (ret)
		return ret;
	device->fd = open_cdev(bdf);
	if (device->fd < 0)
		return device->fd;
	ret = bind_iommufd(device, token);
	if (!ret)
		ret = device_enter(device, space->id);
	if (!ret)
		ret = region_offsets(device);
	if (!ret)
		ret = device_set_master(device, true);
	if (ret)
		close_once(&device->fd);
	return ret;
}

static int device_close(struct device *device)
{
	return close_once(&device->fd);
}

static int device_leave(struct device *device)
{
	struct vfio_device_detach_iommufd_pt request = { .argsz = sizeof(request) };

	return ioctl(device->fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, &request) ? -errno : 0;
}

static int device_reset(struct device *device)
{
	return ioctl(device->fd, VFIO_DEVICE_RESET) ? -errno : 0;
}

/* With iommufd no fd proves ownership. */
static int device_hot_reset(struct device *device)
{
	struct vfio_pci_hot_reset request = { .argsz = sizeof(request) };

	return ioctl(device->fd, VFIO_DEVICE_PCI_HOT_RESET, &request) ? -errno : 0;
}

static int set_feature(struct device *device, uint32_t feature, int eventfd)
{
	struct {
		struct vfio_device_feature header;
		int32_t eventfd;
		uint32_t reserved;
	} request = {
		.header.argsz = sizeof(request.header),
		.header.flags = feature | VFIO_DEVICE_FEATURE_SET,
		.eventfd = eventfd,
	};

	if (eventfd >= 0)
		request.header.argsz = sizeof(request);
	return ioctl(device->fd, VFIO_DEVICE_FEATURE, &request) ? -errno : 0;
}

static int low_power_entry(struct device *device)
{
	return set_feature(device, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, -1);
}

static int low_power_exit(struct device *device)
{
	return set_feature(device, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, -1);
}

static int low_power_entry_with_wakeup(struct device *device)
{
	if (device->wakeup < 0)
		device->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return set_feature(device, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
			   device->wakeup);
}

/* Return 1 if the kernel has signalled a wake-up since the last call, and 0 if not. */
static int device_woken(struct device *device)
{
	eventfd_t count;

	return !eventfd_read(device->wakeup, &count) && count > 0;
}

/* Export ranges of a BAR as a dma-buf. */
static int device_export(struct device *device, struct buffer *buffer, uint32_t region,
			 const struct vfio_region_dma_range *ranges, uint32_t count)
{
	struct vfio_device_feature *header;
	size_t size = sizeof(*header) + 16 + count * sizeof(*ranges);
	uint32_t *data;
	int fd;

	header = calloc(1, size);
	if (!header)
		return -ENOMEM;
	header->argsz = size;
	header->flags = VFIO_DEVICE_FEATURE_DMA_BUF | VFIO_DEVICE_FEATURE_GET;
	data = (uint32_t *)(header + 1);
	data[0] = region;
	data[1] = O_RDWR | O_CLOEXEC;
	data[3] = count;
	memcpy(data + 4, ranges, count * sizeof(*ranges));
	fd = ioctl(device->fd, VFIO_DEVICE_FEATURE, header);
	buffer->fd = fd < 0 ? -errno : fd;
	free(header);
	return buffer->fd;
}

/*
 * Call VFIO_DEVICE_FEATURE with raw bytes. Return the size of the buffer that it
 * exports, which is closed at once, or 0 for another success.
 */
static int raw_feature(struct device *device, const char *bytes, size_t length)
{
	void *request = malloc(length);
	off_t size;
	int fd;

	if (!request)
		return -ENOMEM;
	memcpy(request, bytes, length);
	fd = ioctl(device->fd, VFIO_DEVICE_FEATURE, request);
	if (fd < 0)
		fd = -errno;
	free(request);
	if (fd <= 0)
		return fd;
	size = lseek(fd, 0, SEEK_END);
	close(fd);
	return size < 0 ? -errno : (int)size;
}

static int buffer_dup(struct buffer *copy, struct buffer *buffer)
{
	copy->fd = dup(buffer->fd);
	return copy->fd < 0 ? -errno : copy->fd;
}

static int buffer_close(struct buffer *buffer)
{
	return close_once(&buffer->fd);
}

/* Another domain over a device's address space. */
struct domain {
	uint32_t id;
	struct device *device;
};

static int domain_alloc(struct domain *domain, struct device *device, struct space *space,
			uint32_t flags)
{
	struct iommu_hwpt_alloc request = {
		.size = sizeof(request),
		.flags = flags,
		.dev_id = device->id,
		.pt_id = space->id,
	};

	if (ioctl(space->iommufd->fd, IOMMU_HWPT_ALLOC, &request))
		return -errno;
	*domain = (struct domain){ .id = request.out_hwpt_id, .device = device };
	return 0;
}

static int domain_enter(struct domain *domain)
{
	return device_enter(domain->device, domain->id);
}
