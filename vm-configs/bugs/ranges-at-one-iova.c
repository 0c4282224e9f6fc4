// SPDX-License-Identifier: GPL-2.0-only
/*
 * ranges-at-one-iova: a buffer of several ranges cannot be mapped through a
 * translating IOMMU
 *
 * Rule: the kernel accepts the call.
 *
 * Made by vfio-harness of the calls of
 * test_ranges::test_ranges_follow_each_other[rxe] on Linux 7.2.12, machine
 * intel-iommu, which ended so: the kernel refused: UVERBS_METHOD_REG_DMABUF_MR
 * gave EADDRINUSE
 *
 * The program judges by the error of its last call. The case also has the
 * trace of the device model.
 *
 * Build: cc -static -o reproducer FILE.c. Run it as root, or as the init of a
 * machine of its own: it then mounts what it needs, loads the modules of
 * /dev/vdb, prints KTAP to the kernel's log and powers off.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_netlink.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <rdma/rdma_user_rxe.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME		"ranges-at-one-iova"
#define TIMEOUT_S	300

#define PAGE		4096u
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Exit statuses of the process that runs the program. */
enum ending {
	PASSED = 0,
	BROKEN = 1,	/* the kernel broke the rule */
	NOT_RUN = 2,	/* the program could not show it, whatever the kernel does */
	NOT_JUDGED = 3,	/* only an observer outside the program could judge */
	NOT_ABLE = 4,	/* the kernel is built without what the program needs */
};

static bool alone;	/* the program is the guest's init */

/* Print a line. As the guest's only program, write to the kernel's log, whose lines stay whole. */
static void say(const char *format, ...)
{
	char line[512] = "<1>";
	char *text = line + strlen(line);
	int fd = alone ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : -1;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(line) - 4, format, args);
	va_end(args);
	strcat(text, "\n");
	if (fd < 0) {
		fputs(text, stdout);
		fflush(stdout);
		return;
	}
	if (write(fd, line, strlen(line)) < 0)
		fputs(text, stderr);
	close(fd);
}

static const char *error_name(int error)
{
	const char *name = strerrorname_np(error);

	return name ? name : "an unknown error";
}

static noreturn void end(enum ending ending, const char *sentence, const char *format, ...)
{
	char seen[400];
	va_list args;

	va_start(args, format);
	vsnprintf(seen, sizeof(seen), format, args);
	va_end(args);
	say("# rule: %s", sentence);
	say("# seen: %s", seen);
	_exit(ending);
}

/* A call of the program's set-up, which must succeed. */
static int need_call(int result, const char *call)
{
	if (result < 0)
		end(NOT_RUN, "the set-up of the test succeeds", "%s: %s", call, error_name(-result));
	say("# %s = %d", call, result);
	return result;
}

#define need(call)	need_call(call, #call)

/* A call that the kernel must accept. */
static int accept_call(int result, const char *call, const char *sentence)
{
	if (result < 0)
		end(BROKEN, sentence, "%s: %s", call, error_name(-result));
	say("# %s = %d", call, result);
	return result;
}

#define must_succeed(call, sentence)	accept_call(call, #call, sentence)

static int log_fd = -1;

/* How a complaint of the kernel begins. */
static const char *const splat_lines[] = {
	"WARNING: ",
	"BUG: ",
	"kernel BUG at ",
	"UBSAN: ",
	"Oops: ",
	"general protection fault",
	"INFO: task ",
	"refcount_t: ",
};

static bool contains_any(const char *text, const char *const *words, size_t count)
{
	while (count--) {
		if (strstr(text, *words++))
			return true;
	}
	return false;
}

static void sleep_ms(unsigned int ms)
{
	struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* Read the log from here on. */
static int log_open(void)
{
	log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return log_fd < 0 ? -errno : lseek(log_fd, 0, SEEK_END) < 0 ? -errno : 0;
}

/*
 * Count the new records that contain any of @words, and copy the first one to
 * @first. Records that the reader was too slow for are lost (EPIPE).
 */
static int log_count(const char *const *words, size_t count, char *first, size_t room)
{
	char record[8192];
	int found = 0;
	ssize_t n;

	while ((n = read(log_fd, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		const char *text;

		if (n < 0)
			continue;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text || text[1] == '#' || !contains_any(text, words, count))
			continue;
		if (!found++ && first)
			snprintf(first, room, "%.*s", (int)strcspn(text + 1, "\n"), text + 1);
	}
	return found;
}

static int splat_fd = -1;

/* The kernel's first complaint since the program began; false without one. */
static bool splat(char *line, size_t room)
{
	log_fd = splat_fd;
	return log_count(splat_lines, ARRAY_SIZE(splat_lines), line, room) > 0;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Close a file, unless it is closed. */
static int close_once(int *fd)
{
	int ret = *fd >= 0 && close(*fd) ? -errno : 0;

	*fd = -1;
	return ret;
}

/* Read the start of a file, without the last newline. */
static int read_file(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;
	int ret;

	if (fd < 0)
		return -errno;
	n = read(fd, text, room - 1);
	ret = n < 0 ? -errno : 0;
	close(fd);
	if (ret)
		return ret;
	if (n && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	return 0;
}

/* Copy the last component of what a symbolic link points to. */
static int link_target(const char *path, char *name, size_t room)
{
	char target[256], *last;
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	last = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
	if (strlen(last) >= room)
		return -ENAMETOOLONG;
	memcpy(name, last, strlen(last) + 1);
	return 0;
}

static long long now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

#define MODULES_DIR	"/kernel"

/* Return true if @word is "<module>.<parameter>...". '-' and '_' are equal in a module's name. */
static bool names_module(const char *word, const char *module, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if ((word[i] == '-' ? '_' : word[i]) != (module[i] == '-' ? '_' : module[i]))
			return false;
	}
	return word[len] == '.';
}

/* Load the module at @path with its parameters on the kernel's command line. */
static int load_path(const char *path)
{
	char cmdline[4096], params[1024] = "", *word, *save;
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t used = 0;
	int fd, ret;

	if (read_file("/proc/cmdline", cmdline, sizeof(cmdline)))
		return -errno;
	for (word = strtok_r(cmdline, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		size_t len = strcspn(name, ".");

		if (names_module(word, name, len) && used < sizeof(params))
			used += snprintf(params + used, sizeof(params) - used, "%s ",
					 word + len + 1);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, params, 0) && errno != EEXIST ? -errno : 0;
	close(fd);
	return ret;
}

static const char *module_wanted;
static int module_result;

static int load_if_wanted(const char *path, const struct stat *st, int kind)
{
	const char *name = strrchr(path, '/') + 1;

	(void)st;
	if (kind != FTW_F || strcspn(name, ".") != strlen(module_wanted) ||
	    !names_module(name, module_wanted, strlen(module_wanted)))
		return 0;
	module_result = load_path(path);
	return 1;
}

/* Load a module that the boot does not load. What it needs is loaded already. */
static int load_module(const char *name)
{
	module_wanted = name;
	module_result = -ENOENT;
	if (ftw(MODULES_DIR, load_if_wanted, 16) < 0 && errno != ENOENT)
		return -errno;
	if (module_result == -ENOENT && !alone) {
		char command[128];

		snprintf(command, sizeof(command), "modprobe %s", name);
		return system(command) ? -ENOENT : 0;
	}
	return module_result;
}

static const char *pci_file(const char *bdf, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/%.63s", bdf, name);
	return path;
}

static int pci_unbind(const char *bdf)
{
	if (access(pci_file(bdf, "driver"), F_OK))
		return 0;
	return write_file(pci_file(bdf, "driver/unbind"), bdf);
}

/* Bind a device to a driver, which it may have already. */
static int pci_bind(const char *bdf, const char *driver)
{
	char found[64] = "";
	int ret;

	if (!link_target(pci_file(bdf, "driver"), found, sizeof(found)) && !strcmp(found, driver))
		return 0;
	ret = pci_unbind(bdf);
	if (!ret)
		ret = write_file(pci_file(bdf, "driver_override"), driver);
	if (!ret)
		ret = write_file("/sys/bus/pci/drivers_probe", bdf);
	if (!ret)
		ret = link_target(pci_file(bdf, "driver"), found, sizeof(found));
	return ret ? ret : strcmp(found, driver) ? -ENODEV : 0;
}

#define IOMMU_IOAS_MAP_FIXED_IOVA	1
#define IOMMU_IOAS_MAP_WRITEABLE	2
#define IOMMU_IOAS_MAP_READABLE		4
#define IOMMU_IOAS_ALLOC		_IO(';', 0x81)
#define IOMMU_IOAS_MAP			_IO(';', 0x85)

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

static int ioas_alloc(struct space *space, struct iommufd *iommufd)
{
	struct iommu_ioas_alloc request = { .size = sizeof(request) };

	*space = (struct space){ .iommufd = iommufd, .next_iova = FIRST_IOVA };
	if (ioctl(iommufd->fd, IOMMU_IOAS_ALLOC, &request))
		return -errno;
	space->id = request.out_ioas_id;
	return 0;
}

/* Return an IOVA that was never used, so that a stale one faults. */
static uint64_t new_iova(struct space *space, uint64_t length)
{
	uint64_t iova = space->next_iova;

	space->next_iova += (length + IOVA_ALIGNMENT - 1) & ~(IOVA_ALIGNMENT - 1);
	return iova;
}

#define IOMMU_READ_WRITE	(IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

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

#define VFIO_DEVICE_GET_REGION_INFO	_IO(';', 108)
#define VFIO_DEVICE_FEATURE		_IO(';', 117)
#define VFIO_DEVICE_BIND_IOMMUFD	_IO(';', 118)
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT	_IO(';', 119)
#define VFIO_DEVICE_BIND_FLAG_TOKEN	1
#define VFIO_PCI_CONFIG_REGION_INDEX	7
#define VFIO_DEVICE_FEATURE_GET		(1 << 16)
#define VFIO_DEVICE_FEATURE_DMA_BUF				11
#define PCI_COMMAND			0x04
#define PCI_COMMAND_MASTER		0x4

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

static int device_set_master(struct device *device, bool on)
{
	return change_config(device, PCI_COMMAND, PCI_COMMAND_MASTER, on ? PCI_COMMAND_MASTER : 0);
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

/* Another domain over a device's address space. */
struct domain {
	uint32_t id;
	struct device *device;
};

#define NVME_CC			0x14
#define NVME_CSTS		0x1c
#define NVME_AQA		0x24
#define NVME_ASQ		0x28
#define NVME_ACQ		0x30
#define NVME_CMBMSC		0x50
#define NVME_CC_ENTRY_SIZES	(6u << 16 | 4u << 20)
#define NVME_CC_ENABLE		1u
#define NVME_CSTS_READY		1u
#define NVME_QUEUES		3
#define NVME_DEPTH		64

/* The CMB's address on the controller's side, above all IOVAs. */
#define NVME_CMB_ADDRESS	(448ull << 30)

struct nvme_queue {
	uint16_t id;
	uint16_t tail;
	uint16_t head;
	uint16_t phase;
	uint64_t sq;	/* offsets in the controller's memory */
	uint64_t cq;
};

struct nvme {
	struct device *device;
	uint32_t *registers;	/* BAR0, if it is mapped */
	struct memory memory;	/* a page of data, then two pages for each queue pair */
	struct nvme_queue queues[NVME_QUEUES];
	int queue_count;
	uint16_t cid;
};

static uint32_t nvme_load(struct nvme *nvme, uint32_t offset)
{
	uint32_t value = ~0u;

	if (nvme->registers)
		return __atomic_load_n(&nvme->registers[offset / 4], __ATOMIC_ACQUIRE);
	device_read(nvme->device, 0, offset, &value, sizeof(value));
	return value;
}

static int nvme_store(struct nvme *nvme, uint32_t offset, uint32_t value)
{
	if (!nvme->registers)
		return device_write(nvme->device, 0, offset, &value, sizeof(value));
	__atomic_store_n(&nvme->registers[offset / 4], value, __ATOMIC_RELEASE);
	return 0;
}

/* Give a controller its memory. It is not started yet. */
static int nvme_init(struct nvme *nvme, struct device *device)
{
	*nvme = (struct nvme){ .device = device };
	return memory_share(&nvme->memory, device->space, (1 + 2 * NVME_QUEUES) * PAGE);
}

static struct nvme_queue *nvme_new_queue(struct nvme *nvme, uint16_t id)
{
	struct nvme_queue *queue = &nvme->queues[nvme->queue_count];

	*queue = (struct nvme_queue){
		.id = id,
		.phase = 1,
		.sq = (1 + 2 * nvme->queue_count) * PAGE,
		.cq = (2 + 2 * nvme->queue_count) * PAGE,
	};
	memset(nvme->memory.at + queue->sq, 0, 2 * PAGE);
	nvme->queue_count++;
	return queue;
}

/* Wait until the bits of a mask have a value in a register. */
static int nvme_wait(struct nvme *nvme, uint32_t offset, uint32_t mask, uint32_t value)
{
	long long end_ms = now_ms() + 20000;

	while ((nvme_load(nvme, offset) & mask) != value) {
		if (now_ms() > end_ms)
			return -ETIMEDOUT;
		sleep_ms(1);
	}
	return 0;
}

/* Enable the controller with an empty admin queue and no other queues. */
static int nvme_start(struct nvme *nvme)
{
	struct nvme_queue *admin;
	int ret = nvme_store(nvme, NVME_CC, 0);

	if (!ret)
		ret = nvme_wait(nvme, NVME_CSTS, NVME_CSTS_READY, 0);
	if (ret)
		return ret;
	nvme->queue_count = 0;
	admin = nvme_new_queue(nvme, 0);
	nvme_store(nvme, NVME_AQA, (NVME_DEPTH - 1) << 16 | (NVME_DEPTH - 1));
	nvme_store(nvme, NVME_ASQ, nvme->memory.iova + admin->sq);
	nvme_store(nvme, NVME_ASQ + 4, (nvme->memory.iova + admin->sq) >> 32);
	nvme_store(nvme, NVME_ACQ, nvme->memory.iova + admin->cq);
	nvme_store(nvme, NVME_ACQ + 4, (nvme->memory.iova + admin->cq) >> 32);
	nvme_store(nvme, NVME_CC, NVME_CC_ENTRY_SIZES | NVME_CC_ENABLE);
	return nvme_wait(nvme, NVME_CSTS, NVME_CSTS_READY, NVME_CSTS_READY);
}

/* Enable the controller memory buffer. */
static int nvme_enable_cmb(struct nvme *nvme)
{
	nvme_store(nvme, NVME_CMBMSC + 4, NVME_CMB_ADDRESS >> 32);
	return nvme_store(nvme, NVME_CMBMSC, 3);
}

#define RXE_LINK	"rxe0"
#define NIC_ADDRESS	0xc0a84210	/* 192.168.66.16, if the NIC has none */
#define NIC_NETMASK	0xffffff00

/* Copy the name of an entry of a directory that begins with @prefix. */
static int find_entry(const char *path, const char *prefix, char *name, size_t room)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	int ret = -ENOENT;

	if (!dir)
		return -errno;
	while (ret && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		snprintf(name, room, "%.*s", (int)room - 1, entry->d_name);
		ret = 0;
	}
	closedir(dir);
	return ret;
}

/* Copy the name of the network device of the virtio NIC at @bdf. */
static int nic_name(const char *bdf, char *name, size_t room)
{
	char virtio[32], net[64];
	int ret = find_entry(pci_file(bdf, "."), "virtio", virtio, sizeof(virtio));

	if (ret)
		return ret;
	snprintf(net, sizeof(net), "%s/net", virtio);
	return find_entry(pci_file(bdf, net), "", name, room);
}

static int set_address(int sock, struct ifreq *request, unsigned long ioctl_number,
		       uint32_t address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&request->ifr_addr;

	memset(in, 0, sizeof(*in));
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(address);
	return ioctl(sock, ioctl_number, request) ? -errno : 0;
}

/* Bring a network device up, with @address if it has none. */
static int bring_up(const char *name, uint32_t address)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { 0 };
	int ret = 0;

	if (sock < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(sock, SIOCGIFADDR, &request)) {
		ret = set_address(sock, &request, SIOCSIFADDR, address);
		if (!ret)
			ret = set_address(sock, &request, SIOCSIFNETMASK, NIC_NETMASK);
	}
	if (!ret && ioctl(sock, SIOCGIFFLAGS, &request))
		ret = -errno;
	request.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (!ret && ioctl(sock, SIOCSIFFLAGS, &request))
		ret = -errno;
	close(sock);
	return ret;
}

static void add_text(struct nlmsghdr *message, uint16_t type, const char *text)
{
	struct nlattr *attribute = (void *)((uint8_t *)message + message->nlmsg_len);

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + strlen(text) + 1;
	memcpy(attribute + 1, text, strlen(text) + 1);
	message->nlmsg_len += NLA_ALIGN(attribute->nla_len);
}

/* Send a message, and return the error of its acknowledgement. */
static int send_netlink(const struct nlmsghdr *message)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_RDMA);
	struct {
		struct nlmsghdr header;
		int error;
		uint8_t rest[1024];
	} reply;
	int ret = 0;

	if (sock < 0)
		return -errno;
	if (send(sock, message, message->nlmsg_len, 0) < 0 ||
	    recv(sock, &reply, sizeof(reply), 0) < 0)
		ret = -errno;
	close(sock);
	return ret ? ret : reply.error;
}

/* Create the RDMA device RXE_LINK over the virtio NIC at @bdf, unless it exists. */
static int add_rxe_link(const char *bdf)
{
	struct {
		struct nlmsghdr header;
		uint8_t attributes[256];
	} message = {
		.header.nlmsg_len = sizeof(message.header),
		.header.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, RDMA_NLDEV_CMD_NEWLINK),
		.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
	};
	char nic[IFNAMSIZ];
	int ret = access("/sys/module/rdma_rxe", F_OK) ? load_module("rdma_rxe") : 0;

	if (!ret)
		ret = nic_name(bdf, nic, sizeof(nic));
	if (!ret)
		ret = bring_up("lo", INADDR_LOOPBACK);
	if (!ret)
		ret = bring_up(nic, NIC_ADDRESS);
	if (ret)
		return ret;
	add_text(&message.header, RDMA_NLDEV_ATTR_DEV_NAME, RXE_LINK);
	add_text(&message.header, RDMA_NLDEV_ATTR_NDEV_NAME, nic);
	add_text(&message.header, RDMA_NLDEV_ATTR_LINK_TYPE, "rxe");
	ret = send_netlink(&message.header);
	return ret == -EEXIST ? 0 : ret;
}

/* Read a GID in the form of sysfs: eight groups of four digits. */
static bool parse_gid(const char *text, uint8_t *gid)
{
	unsigned int i, group;

	for (i = 0; i < 8; i++) {
		if (sscanf(text + 5 * i, "%4x", &group) != 1)
			return false;
		gid[2 * i] = group >> 8;
		gid[2 * i + 1] = group;
	}
	return true;
}

/* Find the GID of RXE_LINK that is an IPv4 address. Return its index. */
static int ipv4_gid(uint8_t *gid)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
	long long end_ms = now_ms() + 5000;
	char path[96], text[64];
	int index;

	do {
		for (index = 0; index < 16; index++) {
			snprintf(path, sizeof(path),
				 "/sys/class/infiniband/" RXE_LINK "/ports/1/gids/%d", index);
			if (!read_file(path, text, sizeof(text)) && parse_gid(text, gid) &&
			    !memcmp(gid, prefix, sizeof(prefix)))
				return index;
		}
		sleep_ms(10);
	} while (now_ms() < end_ms);
	return -EADDRNOTAVAIL;
}

#define RDMA_ACCESS	(IB_UVERBS_ACCESS_LOCAL_WRITE | IB_UVERBS_ACCESS_REMOTE_WRITE | \
			 IB_UVERBS_ACCESS_REMOTE_READ)

struct uverbs {
	int fd;
	int events;
	uint32_t pd;
};

/* Make a command. Its response has @room bytes. */
static int uverbs_command(int fd, uint32_t command, const void *body, size_t size, size_t room)
{
	uint8_t request[256];
	struct ib_uverbs_cmd_hdr header = {
		.command = command,
		.in_words = (sizeof(header) + size) / 4,
		.out_words = room / 4,
	};

	memcpy(request, &header, sizeof(header));
	memcpy(request + sizeof(header), body, size);
	return write(fd, request, sizeof(header) + size) < 0 ? -errno : 0;
}

/* Open the node of an RDMA device. */
static int open_uverbs(const char *link)
{
	char path[96], name[64];
	int i;

	for (i = 0; i < 32; i++) {
		snprintf(path, sizeof(path), "/sys/class/infiniband_verbs/uverbs%d/ibdev", i);
		if (read_file(path, name, sizeof(name)) || strcmp(name, link))
			continue;
		snprintf(path, sizeof(path), "/dev/infiniband/uverbs%d", i);
		i = open(path, O_RDWR | O_CLOEXEC);
		return i < 0 ? -errno : i;
	}
	return -ENODEV;
}

static int alloc_pd(struct uverbs *verbs)
{
	struct ib_uverbs_alloc_pd_resp response;
	struct ib_uverbs_alloc_pd request = { .response = (uintptr_t)&response };
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_ALLOC_PD, &request, sizeof(request),
				 sizeof(response));

	verbs->pd = response.pd_handle;
	return ret;
}

/* Open an RDMA device, with a protection domain. */
static int uverbs_open(struct uverbs *verbs, const char *link)
{
	struct ib_uverbs_get_context_resp response;
	struct ib_uverbs_get_context request = { .response = (uintptr_t)&response };
	int ret;

	verbs->fd = open_uverbs(link);
	if (verbs->fd < 0)
		return verbs->fd;
	ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_GET_CONTEXT, &request, sizeof(request),
			     sizeof(response));
	verbs->events = response.async_fd;
	return ret ? ret : alloc_pd(verbs);
}

/* Register memory of this process. Return its lkey, which is also its rkey. */
static int register_memory(struct uverbs *verbs, void *memory, size_t length, uint32_t *key)
{
	struct ib_uverbs_reg_mr_resp response;
	struct ib_uverbs_reg_mr request = {
		.response = (uintptr_t)&response,
		.start = (uintptr_t)memory,
		.length = length,
		.hca_va = (uintptr_t)memory,
		.pd_handle = verbs->pd,
		.access_flags = RDMA_ACCESS,
	};
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_REG_MR, &request, sizeof(request),
				 sizeof(response));

	*key = response.lkey;
	return ret;
}

#define MOST_ATTRIBUTES	12

/* A method of the MR object, with its attributes. */
struct mr_call {
	struct ib_uverbs_ioctl_hdr header;
	struct ib_uverbs_attr attributes[MOST_ATTRIBUTES];
};

/* Add an attribute. @length is 0 for a handle or an fd, which @data holds. */
static void add_attribute(struct mr_call *request, uint16_t id, uint16_t length, uint64_t data)
{
	request->attributes[request->header.num_attrs++] = (struct ib_uverbs_attr){
		.attr_id = id,
		.len = length,
		.flags = UVERBS_ATTR_F_MANDATORY,
		.data = data,
	};
}

static int call_mr_method(struct uverbs *verbs, uint16_t method, struct mr_call *request)
{
	request->header.length = sizeof(request->header) +
			      request->header.num_attrs * sizeof(request->attributes[0]);
	request->header.object_id = UVERBS_OBJECT_MR;
	request->header.method_id = method;
	request->header.driver_id = RDMA_DRIVER_RXE;
	return ioctl(verbs->fd, RDMA_VERBS_IOCTL, request) ? -errno : 0;
}

#define RXE_COMPLETIONS		16
#define RXE_REQUESTS		4
#define IB_MTU_1024		3

/* Members of include/rdma/ib_verbs.h. */
enum ib_qp_state {
	IB_QPS_INIT = 1,
	IB_QPS_RTR = 2,
	IB_QPS_RTS = 3,
};

enum ib_qp_attr_mask {
	IB_QP_STATE = 1 << 0,
	IB_QP_ACCESS_FLAGS = 1 << 3,
	IB_QP_PKEY_INDEX = 1 << 4,
	IB_QP_PORT = 1 << 5,
	IB_QP_AV = 1 << 7,
	IB_QP_PATH_MTU = 1 << 8,
	IB_QP_TIMEOUT = 1 << 9,
	IB_QP_RETRY_CNT = 1 << 10,
	IB_QP_RNR_RETRY = 1 << 11,
	IB_QP_RQ_PSN = 1 << 12,
	IB_QP_MAX_QP_RD_ATOMIC = 1 << 13,
	IB_QP_MIN_RNR_TIMER = 1 << 15,
	IB_QP_SQ_PSN = 1 << 16,
	IB_QP_MAX_DEST_RD_ATOMIC = 1 << 17,
	IB_QP_DEST_QPN = 1 << 20,
};

struct rxe_qp {
	uint32_t handle;
	uint32_t number;
	struct rxe_queue_buf *requests;
	size_t size;
};

static int map_queue(struct uverbs *verbs, const struct mminfo *info, struct rxe_queue_buf **queue)
{
	*queue = mmap(NULL, info->size, PROT_READ | PROT_WRITE, MAP_SHARED, verbs->fd,
		      info->offset);
	return *queue == MAP_FAILED ? -errno : 0;
}

static int create_cq(struct uverbs *verbs, uint32_t *handle, struct rxe_queue_buf **completions)
{
	struct {
		struct ib_uverbs_create_cq_resp base;
		struct rxe_create_cq_resp rxe;
	} response;
	struct ib_uverbs_create_cq request = {
		.response = (uintptr_t)&response,
		.cqe = RXE_COMPLETIONS,
		.comp_channel = -1,
	};
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_CREATE_CQ, &request, sizeof(request),
				 sizeof(response));

	*handle = response.base.cq_handle;
	return ret ? ret : map_queue(verbs, &response.rxe.mi, completions);
}

static int create_qp(struct uverbs *verbs, struct rxe_qp *qp, uint32_t cq)
{
	struct {
		struct ib_uverbs_create_qp_resp base;
		struct rxe_create_qp_resp rxe;
	} response;
	struct ib_uverbs_create_qp request = {
		.response = (uintptr_t)&response,
		.pd_handle = verbs->pd,
		.send_cq_handle = cq,
		.recv_cq_handle = cq,
		.max_send_wr = RXE_REQUESTS,
		.max_recv_wr = 1,
		.max_send_sge = 1,
		.max_recv_sge = 1,
		.qp_type = IB_UVERBS_QPT_RC,
	};
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_CREATE_QP, &request, sizeof(request),
				 sizeof(response));

	if (ret)
		return ret;
	qp->handle = response.base.qp_handle;
	qp->number = response.base.qpn;
	qp->size = response.rxe.sq_mi.size;
	return map_queue(verbs, &response.rxe.sq_mi, &qp->requests);
}

static int modify_qp(struct uverbs *verbs, struct ib_uverbs_modify_qp *request,
		     enum ib_qp_state state, uint32_t mask)
{
	request->qp_state = state;
	request->attr_mask = IB_QP_STATE | mask;
	return uverbs_command(verbs->fd, IB_USER_VERBS_CMD_MODIFY_QP, request, sizeof(*request), 0);
}

/* Connect a queue pair to @number at @gid. Retries last about 4 s, since emulation may be slow. */
static int connect_qp(struct uverbs *verbs, struct rxe_qp *qp, uint32_t number, const uint8_t *gid,
		      int gid_index)
{
	struct ib_uverbs_modify_qp request = {
		.qp_handle = qp->handle,
		.qp_access_flags = RDMA_ACCESS,
		.port_num = 1,
		.dest_qp_num = number,
		.path_mtu = IB_MTU_1024,
		.max_rd_atomic = 1,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.timeout = 17,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.dest.is_global = 1,
		.dest.port_num = 1,
		.dest.sgid_index = gid_index,
		.dest.hop_limit = 1,
	};
	int ret;

	memcpy(request.dest.dgid, gid, sizeof(request.dest.dgid));
	ret = modify_qp(verbs, &request, IB_QPS_INIT,
			IB_QP_PKEY_INDEX | IB_QP_PORT | IB_QP_ACCESS_FLAGS);
	if (!ret)
		ret = modify_qp(verbs, &request, IB_QPS_RTR,
				IB_QP_AV | IB_QP_PATH_MTU | IB_QP_DEST_QPN | IB_QP_RQ_PSN |
				IB_QP_MAX_DEST_RD_ATOMIC | IB_QP_MIN_RNR_TIMER);
	if (!ret)
		ret = modify_qp(verbs, &request, IB_QPS_RTS,
				IB_QP_SQ_PSN | IB_QP_TIMEOUT | IB_QP_RETRY_CNT | IB_QP_RNR_RETRY |
				IB_QP_MAX_QP_RD_ATOMIC);
	return ret;
}

#define RDMA_CHUNK	(256u << 10)	/* bytes of one work request */

struct rxe {
	struct uverbs verbs;
	uint8_t gid[16];
	int gid_index;
	uint32_t cq;
	struct rxe_queue_buf *completions;
	struct rxe_qp pair[2];	/* the first one requests */
	uint8_t *memory;
	uint32_t memory_key;
};

static int connect_pair(struct rxe *rxe)
{
	int i, ret = create_qp(&rxe->verbs, &rxe->pair[0], rxe->cq);

	if (!ret)
		ret = create_qp(&rxe->verbs, &rxe->pair[1], rxe->cq);
	for (i = 0; i < 2 && !ret; i++)
		ret = connect_qp(&rxe->verbs, &rxe->pair[i], rxe->pair[!i].number, rxe->gid,
				 rxe->gid_index);
	return ret;
}

/* Open rxe over the NIC at @bdf, with memory and two connected queue pairs. */
static int rxe_open(struct rxe *rxe, const char *bdf)
{
	int ret = add_rxe_link(bdf);

	if (ret)
		return ret;
	rxe->gid_index = ipv4_gid(rxe->gid);
	if (rxe->gid_index < 0)
		return rxe->gid_index;
	rxe->memory = mmap(NULL, RDMA_CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	if (rxe->memory == MAP_FAILED)
		return -errno;
	ret = uverbs_open(&rxe->verbs, RXE_LINK);
	if (!ret)
		ret = register_memory(&rxe->verbs, rxe->memory, RDMA_CHUNK, &rxe->memory_key);
	if (!ret)
		ret = create_cq(&rxe->verbs, &rxe->cq, &rxe->completions);
	return ret ? ret : connect_pair(rxe);
}

/* A memory region over a dma-buf. */
struct rdma_region {
	struct rxe *rxe;
	uint32_t handle;
	uint32_t lkey;
	uint32_t rkey;
	uint64_t iova;
	bool local;	/* the local side of a transfer, whose other side is memory */
};

/* A method that registers an MR. The newer one also registers memory. */
enum mr_method {
	REG_DMABUF_MR,
	REG_MR,
};

enum mr_attribute {
	MR_DOMAIN,
	MR_START,
	MR_LENGTH,
	MR_IOVA,
	MR_FD,
	MR_ACCESS,
	MR_LKEY,
	MR_RKEY,
	MR_ATTRIBUTES,
};

struct mr_method_ids {
	uint16_t method;
	struct {
		uint16_t id;
		uint16_t length;	/* 0 for a handle or an fd */
	} attributes[MR_ATTRIBUTES];
};

/* REG_MR as in include/uapi/rdma/ib_user_ioctl_cmds.h of Linux 7.2. */
static const struct mr_method_ids mr_methods[] = {
	[REG_DMABUF_MR] = { UVERBS_METHOD_REG_DMABUF_MR, {
		[MR_DOMAIN] = { UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, 0 },
		[MR_START] = { UVERBS_ATTR_REG_DMABUF_MR_OFFSET, 8 },
		[MR_LENGTH] = { UVERBS_ATTR_REG_DMABUF_MR_LENGTH, 8 },
		[MR_IOVA] = { UVERBS_ATTR_REG_DMABUF_MR_IOVA, 8 },
		[MR_FD] = { UVERBS_ATTR_REG_DMABUF_MR_FD, 4 },
		[MR_ACCESS] = { UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, 4 },
		[MR_LKEY] = { UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, 4 },
		[MR_RKEY] = { UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, 4 },
	} },
	[REG_MR] = { 5, {
		[MR_DOMAIN] = { 1, 0 },
		[MR_START] = { 8, 8 },
		[MR_LENGTH] = { 5, 8 },
		[MR_IOVA] = { 3, 8 },
		[MR_FD] = { 7, 0 },
		[MR_ACCESS] = { 6, 4 },
		[MR_LKEY] = { 9, 4 },
		[MR_RKEY] = { 10, 4 },
	} },
};

struct mr_arguments {
	enum mr_method method;
	int fd;
	uint64_t start;
	uint64_t length;
	uint64_t iova;
	uint32_t access;
	uint32_t without;	/* bits of the attributes that are left out */
	uint32_t unwritable;	/* bits of the keys for which the kernel gets a bad address */
	const uint32_t *domain;	/* the handle of a protection domain, or NULL */
};

#define UNMAPPED	8	/* an address below vm.mmap_min_addr */

static int register_mr(struct rdma_region *region, struct rxe *rxe, struct mr_arguments mr)
{
	const uint64_t values[MR_ATTRIBUTES] = {
		[MR_DOMAIN] = mr.domain ? *mr.domain : rxe->verbs.pd,
		[MR_START] = mr.start,
		[MR_LENGTH] = mr.length,
		[MR_IOVA] = mr.iova,
		[MR_FD] = mr.method == REG_MR ? (uint64_t)mr.fd : (uint32_t)mr.fd,
		[MR_ACCESS] = mr.access,
		[MR_LKEY] = mr.unwritable & 1 << MR_LKEY ? UNMAPPED : (uintptr_t)&region->lkey,
		[MR_RKEY] = mr.unwritable & 1 << MR_RKEY ? UNMAPPED : (uintptr_t)&region->rkey,
	};
	struct mr_call request = { 0 };
	int i, ret;

	*region = (struct rdma_region){
		.rxe = rxe,
		.iova = mr.without & 1 << MR_IOVA ? 0 : mr.iova,
	};
	add_attribute(&request, 0, 0, 0);	/* the handle, of both methods */
	for (i = 0; i < MR_ATTRIBUTES; i++) {
		if (!(mr.without & 1 << i))
			add_attribute(&request, mr_methods[mr.method].attributes[i].id,
				      mr_methods[mr.method].attributes[i].length, values[i]);
	}
	ret = call_mr_method(&rxe->verbs, mr_methods[mr.method].method, &request);
	region->handle = request.attributes[0].data;
	return ret;
}

/* Register part of a buffer, with all access. */
static int import_by_rxe(struct rdma_region *region, struct rxe *rxe, struct buffer *buffer,
			 uint64_t start, uint64_t length)
{
	return register_mr(region, rxe, (struct mr_arguments){
		.fd = buffer->fd,
		.start = start,
		.length = length,
		.iova = start,
		.access = RDMA_ACCESS,
	});
}

struct call {
	pthread_t thread;
	int (*act)(void);
	int result;
};

static struct iommufd iommufd1;
static struct space space1;
static struct device device1;
static struct nvme nvme1;
static struct rxe importer1;
static struct buffer buffer1;
static const struct vfio_region_dma_range ranges_of_buffer1[] = {
	{ 0x5000, 0x1000 },
	{ 0x2000, 0x1000 },
	{ 0x9000, 0x2000 },
	{ 0x2000, 0x1000 },
};
static struct rdma_region window1;

static void program(void)
{
	need(pci_bind("0000:01:00.0", "vfio-pci"));
	need(iommufd_open(&iommufd1));
	need(ioas_alloc(&space1, &iommufd1));
	need(device_open(&device1, "0000:01:00.0", &space1, NULL));
	need(nvme_init(&nvme1, &device1));
	need(nvme_start(&nvme1));
	need(nvme_enable_cmb(&nvme1));
	need(rxe_open(&importer1, "0000:00:05.0"));
	need(device_fill(&device1, 2, 0, 0, 0x1000));
	need(device_fill(&device1, 2, 0x1000, 1, 0x1000));
	need(device_fill(&device1, 2, 0x2000, 2, 0x1000));
	need(device_fill(&device1, 2, 0x3000, 3, 0x1000));
	need(device_fill(&device1, 2, 0x4000, 4, 0x1000));
	need(device_fill(&device1, 2, 0x5000, 5, 0x1000));
	need(device_fill(&device1, 2, 0x6000, 6, 0x1000));
	need(device_fill(&device1, 2, 0x7000, 7, 0x1000));
	need(device_fill(&device1, 2, 0x8000, 8, 0x1000));
	need(device_fill(&device1, 2, 0x9000, 9, 0x1000));
	need(device_fill(&device1, 2, 0xa000, 0xa, 0x1000));
	need(device_fill(&device1, 2, 0xb000, 0xb, 0x1000));
	need(device_fill(&device1, 2, 0xc000, 0xc, 0x1000));
	need(device_fill(&device1, 2, 0xd000, 0xd, 0x1000));
	need(device_fill(&device1, 2, 0xe000, 0xe, 0x1000));
	need(device_fill(&device1, 2, 0xf000, 0xf, 0x1000));
	need(device_export(&device1, &buffer1, 2, ranges_of_buffer1,
		ARRAY_SIZE(ranges_of_buffer1)));
	must_succeed(import_by_rxe(&window1, &importer1, &buffer1, 0, 0x5000),
		"the kernel accepts the call");
}

static const char *const console_lines[] = { "KTAP version 1", "1..1" };

static void load_modules(void)
{
	char *path, *save;
	static char order[8192];

	if (access("/dev/vdb", F_OK) || mount("/dev/vdb", MODULES_DIR, "erofs", MS_RDONLY, NULL))
		return;
	if (chdir(MODULES_DIR) || read_file("load-order", order, sizeof(order)))
		return;
	for (path = strtok_r(order, "\n", &save); path; path = strtok_r(NULL, "\n", &save)) {
		int ret = load_path(path);

		if (ret)
			say("# module %s: %s", path, error_name(-ret));
	}
}

static void start_machine(void)
{
	mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
	write_file("/proc/sys/kernel/printk_devkmsg", "on");
	load_modules();
}

/* Run the program in a process of its own, which a stuck call cannot leave. Return its status. */
static int run(void)
{
	long long end_ms = now_ms() + 1000LL * TIMEOUT_S;
	int status;
	pid_t pid = fork();

	if (!pid) {
		program();
		_exit(PASSED);
	}
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now_ms() > end_ms)
			return -ETIMEDOUT;
		sleep_ms(20);
	}
	if (!WIFEXITED(status))
		return -EINTR;
	return WEXITSTATUS(status);
}

static int verdict(int status)
{
	char line[256];

	if (status == -ETIMEDOUT) {
		say("# seen: the call after the last one above has not returned for %d s",
		    TIMEOUT_S);
		say("not ok 1 %s: %s", NAME, "a call does not return");
		return 1;
	}
	if (splat(line, sizeof(line))) {
		say("# seen in the kernel's log: %s", line);
		say("not ok 1 %s: %s", NAME, "the kernel complained");
		return 1;
	}
	if (status == PASSED || status == BROKEN) {
		say("%sok 1 %s", status == BROKEN ? "not " : "", NAME);
		return status;
	}
	if (status == NOT_JUDGED) {
		say("ok 1 %s # SKIP only an observer outside the program sees it", NAME);
		return 4;
	}
	if (status == NOT_ABLE) {
		say("ok 1 %s # SKIP the kernel is built without what the program needs", NAME);
		return 4;
	}
	say("Bail out! %s: the program did not get as far as the bug", NAME);
	return 3;
}

int main(void)
{
	size_t i;
	int ret;

	alone = getpid() == 1;
	if (alone)
		start_machine();
	for (i = 0; i < ARRAY_SIZE(console_lines); i++)
		say("%s", console_lines[i]);
	if (log_open())
		say("# /dev/kmsg: %s", error_name(errno));
	splat_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(splat_fd, 0, SEEK_END);
	ret = verdict(run());
	if (alone)
		reboot(RB_POWER_OFF);
	return ret;
}
