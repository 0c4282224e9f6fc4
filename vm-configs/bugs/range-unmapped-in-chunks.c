// SPDX-License-Identifier: GPL-2.0-only
/*
 * range-unmapped-in-chunks: a range of more than 4 GiB is mapped at once and
 * unmapped in chunks
 *
 * Rule: the kernel complains about nothing.
 *
 * Made by vfio-harness of the calls of
 * test_big_bar::test_entries_are_whole_pages on Linux 7.2.12, machine
 * big-bar-pt, which ended so: DMA-API: device driver frees DMA memory with
 * different size in dma_buf_free_sgt
 *
 * The program judges by the kernel's log. The case also has the trace of the
 * device model.
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
#include <poll.h>
#include <pthread.h>
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME		"range-unmapped-in-chunks"
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

#define IMPORTER_NODE		"/dev/vfio-harness-importer"
#define IMPORTER_PEER2PEER	0x02
#define IMPORTER_CALLBACK	0x04
#define DMA_BIDIRECTIONAL	0

struct importer_attach {
	int32_t fd;
	uint32_t device;
	uint32_t flags;
	uint32_t delay_ms;
};

#define IMPORTER_ATTACH		_IOW('V', 0, struct importer_attach)
#define IMPORTER_MAP		_IO('V', 2)

struct attachment {
	int fd;
};

static int importer_open(void)
{
	int fd, ret = access(IMPORTER_NODE, F_OK) ? load_module("vfio_harness_importer") : 0;

	if (ret)
		return ret;
	fd = open(IMPORTER_NODE, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static uint32_t importer_address(const char *bdf)
{
	unsigned int domain = 0, bus = 0, slot = 0, function = 0;

	if (sscanf(bdf, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return 0;
	return domain << 16 | bus << 8 | slot << 3 | function;
}

/* Attach the device at @bdf to a dma-buf. */
static int attach(struct attachment *attachment, const char *bdf, int fd, uint32_t flags,
		  uint32_t delay_ms)
{
	struct importer_attach request = {
		.fd = fd,
		.device = importer_address(bdf),
		.flags = flags,
		.delay_ms = delay_ms,
	};
	int ret;

	attachment->fd = importer_open();
	if (attachment->fd < 0)
		return attachment->fd;
	if (!ioctl(attachment->fd, IMPORTER_ATTACH, &request))
		return 0;
	ret = -errno;
	close(attachment->fd);
	return ret;
}

static int map(struct attachment *attachment)
{
	return ioctl(attachment->fd, IMPORTER_MAP, DMA_BIDIRECTIONAL) < 0 ? -errno : 0;
}

#define NVME_CC			0x14
#define NVME_CSTS		0x1c
#define NVME_AQA		0x24
#define NVME_ASQ		0x28
#define NVME_ACQ		0x30
#define NVME_CC_ENTRY_SIZES	(6u << 16 | 4u << 20)
#define NVME_CC_ENABLE		1u
#define NVME_CSTS_READY		1u
#define NVME_QUEUES		3
#define NVME_DEPTH		64

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

#define NVME_PMRCTL		0xe04
#define NVME_PMRSTS		0xe08
#define NVME_PMRSTS_NOT_READY	(1u << 8)

/* Enable the persistent memory region. */
static int nvme_enable_pmr(struct nvme *nvme)
{
	nvme_store(nvme, NVME_PMRCTL, 1);
	return nvme_wait(nvme, NVME_PMRSTS, NVME_PMRSTS_NOT_READY, 0);
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
static struct buffer buffer1;
static const struct vfio_region_dma_range ranges_of_buffer1[] = {
	{ 0x40000000, 0x180000000ull },
};
static struct attachment attachment1;

static void program(void)
{
	need(pci_bind("0000:01:00.0", "vfio-pci"));
	need(iommufd_open(&iommufd1));
	need(ioas_alloc(&space1, &iommufd1));
	need(device_open(&device1, "0000:01:00.0", &space1, NULL));
	need(nvme_init(&nvme1, &device1));
	need(nvme_start(&nvme1));
	need(nvme_enable_pmr(&nvme1));
	need(device_export(&device1, &buffer1, 4, ranges_of_buffer1,
		ARRAY_SIZE(ranges_of_buffer1)));
	need(attach(&attachment1, "0000:00:06.0", buffer1.fd,
		IMPORTER_PEER2PEER | IMPORTER_CALLBACK, 0));
	need(map(&attachment1));
	/* each SG entry of a large buffer is made of whole pages */
	/* SG entries follow each other */
	/* SG entries cover a large buffer */
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
