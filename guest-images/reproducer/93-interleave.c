// SPDX-License-Identifier: GPL-2.0-only
/* A call that pauses in the kernel, by the test importer, while another is made. */
#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>

/* The function at whose return the call pauses (guest-images/importer/uapi.h). */
enum importer_pause_point {
	IMPORTER_PAUSE_ATTACH = 0,
	IMPORTER_PAUSE_MAP = 1,
	IMPORTER_PAUSE_EXPORT = 2,
	IMPORTER_PAUSE_CLOSE = 3,
	IMPORTER_PAUSE_INSERT = 4,
	IMPORTER_PAUSE_FILL = 5,
	IMPORTER_PAUSE_PAGES = 6,
	IMPORTER_PAUSE_FPUT = 7,
	IMPORTER_PAUSE_UMEM = 8,
	IMPORTER_PAUSE_UNPIN = 9,
	IMPORTER_PAUSE_UNLOCK = 10,
	IMPORTER_PAUSE_IOVA = 11,
	IMPORTER_PAUSE_TABLE = 12,
	IMPORTER_PAUSE_ALIGNMENT = 13,
};

enum importer_pause_state {
	IMPORTER_PAUSE_ARMED = 0,
	IMPORTER_PAUSE_ON = 1,
};

struct importer_pause_request {
	uint32_t point;
	uint32_t limit_ms;
};

#define IMPORTER_PAUSE		_IOW('V', 13, struct importer_pause_request)
#define IMPORTER_PAUSE_STATE	_IO('V', 14)
#define IMPORTER_RESUME		_IO('V', 15)
#define IMPORTER_MAX_PAUSE_MS	2000

/* The outcome of two calls as one number: whether the second one waited, and their errnos. */
#define OUTCOME(blocked, first, second)	((blocked) << 24 | -(first) << 12 | -(second))

/* Wait until a call has ended, and return false after @ms. */
static bool ends_within(pthread_t thread, unsigned int ms)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_nsec += ms % 1000 * 1000000L;
	end.tv_sec += ms / 1000 + end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	return !pthread_timedjoin_np(thread, NULL, &end);
}

/*
 * Make the call @first, pause it at @point, and make the call @second, which may
 * take @ms. Then let both end. Return their OUTCOME().
 */
static int interleave(enum importer_pause_point point, int (*first)(void), int (*second)(void),
		      unsigned int ms)
{
	struct importer_pause_request request = { point, IMPORTER_MAX_PAUSE_MS };
	static struct call paused, meanwhile;
	int state = IMPORTER_PAUSE_ARMED, node = importer_open();
	long long end_ms = now_ms() + 10000;
	bool blocked;

	if (node < 0)
		return node;
	if (ioctl(node, IMPORTER_PAUSE, &request))
		return -errno;
	paused.act = first;
	meanwhile.act = second;
	if (pthread_create(&paused.thread, NULL, make_call, &paused))
		return -EAGAIN;
	while (state == IMPORTER_PAUSE_ARMED && now_ms() < end_ms) {
		sleep_ms(1);
		state = ioctl(node, IMPORTER_PAUSE_STATE);
	}
	if (pthread_create(&meanwhile.thread, NULL, make_call, &meanwhile))
		return -EAGAIN;
	blocked = !ends_within(meanwhile.thread, ms);
	state = ioctl(node, IMPORTER_PAUSE_STATE);
	ioctl(node, IMPORTER_RESUME);
	close(node);
	if (blocked)
		pthread_join(meanwhile.thread, NULL);
	pthread_join(paused.thread, NULL);
	say("# the paused call: %s; the other: %s%s", error_name(-(paused.result < 0 ? paused.result : 0)),
	    error_name(-(meanwhile.result < 0 ? meanwhile.result : 0)),
	    blocked ? ", which waited for the first" : "");
	if (state != IMPORTER_PAUSE_ON) {
		say("# the pause is in state %d: it never began, or ended too early", state);
		return -ETIMEDOUT;
	}
	return OUTCOME(blocked, paused.result < 0 ? paused.result : 0,
		       meanwhile.result < 0 ? meanwhile.result : 0);
}

/* A result of the program's set-up that must be the recorded one. */
static void need_result(long long result, long long recorded, const char *text)
{
	if (result != recorded)
		end(NOT_RUN, "the set-up of the test goes as in the case", "%s = %lld, not %lld",
		    text, result, recorded);
	say("# %s = %lld", text, result);
}

#define need_same(call, recorded)	need_result(call, recorded, #call)
