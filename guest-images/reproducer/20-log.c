// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel's log says meanwhile: refused DMA, and complaints. */
#include <poll.h>
#include <time.h>

static int log_fd = -1;

/* How the IOMMU drivers of Linux 6.1 to 7.3 report a DMA that they refuse. */
static const char *const fault_lines[] = {
	"DMAR: [DMA Write",
	"DMAR: [DMA Read",
	"AMD-Vi: Event logged [IO_PAGE_FAULT",
	"virtio_iommu: page fault",
	"event: F_TRANSLATION",
	"event 0x10 received",
};

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

/*
 * The kernel logs ten lines in 5 s (DEFAULT_RATELIMIT_BURST), and some drivers
 * need three for a fault.
 */
#define LOGGED_FAULTS	2
#define LOG_PERIOD_MS	5100

static int logged_faults;	/* blocked doorbells in this period */

/* Forget what the log has. Call it before a DMA. */
static void forget_faults(void)
{
	if (logged_faults >= LOGGED_FAULTS) {
		sleep_ms(LOG_PERIOD_MS);
		logged_faults = 0;
	}
	log_count(fault_lines, ARRAY_SIZE(fault_lines), NULL, 0);
}

/* Count the DMA faults that the kernel has logged since forget_faults(). It logs them late. */
static int dma_faults(void)
{
	int count;

	sleep_ms(300);
	count = log_count(fault_lines, ARRAY_SIZE(fault_lines), NULL, 0);
	logged_faults += count > 0;
	return count;
}

static int splat_fd = -1;

/* The kernel's first complaint since the program began; false without one. */
static bool splat(char *line, size_t room)
{
	log_fd = splat_fd;
	return log_count(splat_lines, ARRAY_SIZE(splat_lines), line, room) > 0;
}
