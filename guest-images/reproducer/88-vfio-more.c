// SPDX-License-Identifier: GPL-2.0-only
/* More calls of a vfio device, of its domains, and of iommufd. */
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define IOMMU_VFIO_IOAS		_IO(';', 0x88)
#define IOMMU_VFIO_IOAS_SET	1
#define VFIO_IOMMU_UNMAP_DMA	_IO(';', 114)

struct iommu_vfio_ioas {
	uint32_t size;
	uint32_t ioas_id;
	uint16_t op;
	uint16_t reserved;
};

struct vfio_iommu_type1_dma_unmap {
	uint32_t argsz;
	uint32_t flags;
	uint64_t iova;
	uint64_t size;
};

/* Unmap by VFIO_IOMMU_UNMAP_DMA, which may split areas. Return the bytes. */
static long long ioas_unmap_as_type1(struct space *space, uint64_t iova, uint64_t length)
{
	struct iommu_vfio_ioas compat = {
		.size = sizeof(compat),
		.ioas_id = space->id,
		.op = IOMMU_VFIO_IOAS_SET,
	};
	struct vfio_iommu_type1_dma_unmap request = {
		.argsz = sizeof(request),
		.iova = iova,
		.size = length,
	};

	if (ioctl(space->iommufd->fd, IOMMU_VFIO_IOAS, &compat) ||
	    ioctl(space->iommufd->fd, VFIO_IOMMU_UNMAP_DMA, &request))
		return -errno;
	return request.size;
}

/* Move the device of a domain back to its own address space, and free the domain. */
static int domain_close(struct domain *domain)
{
	int ret = device_enter(domain->device, domain->device->space->id);

	return ret ? ret : iommufd_destroy(domain->device->space->iommufd, domain->id);
}

static int domain_destroy(struct domain *domain)
{
	return iommufd_destroy(domain->device->space->iommufd, domain->id);
}

/* Call VFIO_DEVICE_FEATURE with up to 64 bytes of payload. Return its value. */
static int device_feature(struct device *device, uint32_t flags, const char *payload, size_t length)
{
	struct {
		struct vfio_device_feature header;
		char payload[64];
	} request = {
		.header.argsz = sizeof(request.header) + length,
		.header.flags = flags,
	};
	int ret;

	memcpy(request.payload, payload, length);
	ret = ioctl(device->fd, VFIO_DEVICE_FEATURE, &request);
	return ret < 0 ? -errno : ret;
}

/* Read a 16-bit register of config space by its name, as vfio shows it. */
static int device_register(struct device *device, const char *name)
{
	int at = config_register(device, name);
	uint16_t value = 0;
	int ret = at < 0 ? at : device_read(device, VFIO_PCI_CONFIG_REGION_INDEX, at, &value, 2);

	return ret ? ret : value;
}

/* Open a device's character device without binding it to an iommufd. */
static int node_open(struct device *device, const char *bdf)
{
	*device = (struct device){ .fd = open_cdev(bdf), .wakeup = -1 };
	return device->fd < 0 ? device->fd : 0;
}

static int device_duplicate(struct device *copy, struct device *device)
{
	*copy = (struct device){ .fd = dup(device->fd), .wakeup = -1 };
	return copy->fd < 0 ? -errno : 0;
}

#define MOST_LOADS	8

/* The different values that a thread loads from a register, in order. */
struct loads {
	uint32_t *at;
	bool done;
	int count;
	uint32_t values[MOST_LOADS];
};

static void load_once(struct loads *loads)
{
	uint32_t value = __atomic_load_n(loads->at, __ATOMIC_RELAXED);
	int i = 0, j;

	while (i < loads->count && loads->values[i] < value)
		i++;
	if (loads->count == MOST_LOADS || (i < loads->count && loads->values[i] == value))
		return;
	for (j = loads->count++; j > i; j--)
		loads->values[j] = loads->values[j - 1];
	loads->values[i] = value;
}

static void *keep_loading(void *data)
{
	struct loads *loads = data;

	while (!__atomic_load_n(&loads->done, __ATOMIC_ACQUIRE))
		load_once(loads);
	return NULL;
}

/* Reset while a thread loads through an mmap of a region's page. Return a digest of the values. */
static long long device_loads_during(struct device *device, int (*reset)(struct device *device),
				     int region, uint64_t page, uint64_t offset)
{
	static struct loads loads;
	pthread_t thread;
	void *mapping = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, device->fd,
			     device->offsets[region] + page);
	int i, ret;

	if (mapping == MAP_FAILED)
		return -errno;
	loads = (struct loads){ .at = mapping + offset };
	load_once(&loads);
	if (pthread_create(&thread, NULL, keep_loading, &loads))
		return -EAGAIN;
	ret = reset(device);
	__atomic_store_n(&loads.done, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	load_once(&loads);
	munmap(mapping, PAGE);
	for (i = 0; i < loads.count; i++)
		say("# loaded %#x", loads.values[i]);
	return ret ? ret : digest((uint8_t *)loads.values, loads.count * 4);
}
