// SPDX-License-Identifier: GPL-2.0-only
/* How a reproducer says what it does, and ends: KTAP on the console. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <unistd.h>

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

/* A call that the kernel must refuse with this error. */
static void refuse_call(int result, const char *call, int error, const char *sentence)
{
	if (result >= 0)
		end(BROKEN, sentence, "%s succeeded, and not %s", call, error_name(error));
	if (result != -error)
		end(BROKEN, sentence, "%s: %s, not %s", call, error_name(-result),
		    error_name(error));
	say("# %s: %s", call, error_name(error));
}

#define must_fail(call, error, sentence)	refuse_call(call, #call, error, sentence)

/* A call that a kernel with the bug accepts, and any other refuses. */
static void wrongly_accept_call(int result, const char *call, const char *sentence)
{
	if (result < 0)
		end(PASSED, sentence, "%s: %s", call, error_name(-result));
	say("# %s = %d, which a kernel without the bug refuses", call, result);
}

#define wrongly_succeeds(call, sentence)	wrongly_accept_call(call, #call, sentence)

/* The program's last call: with the bug its result is @recorded. */
static void judge_value(long long value, long long recorded, const char *call,
			const char *sentence)
{
	end(value == recorded ? BROKEN : PASSED, sentence, "%s = %lld, and %lld with the bug",
	    call, value, recorded);
}

#define must_differ(call, recorded, sentence)	judge_value(call, recorded, #call, sentence)

/* The program's last measurement: with the bug it is about @recorded, without it near 0. */
static void judge_growth(long long growth, long long recorded, const char *sentence)
{
	bool broken = recorded > 0 ? growth > recorded / 2 : growth < recorded / 2;

	end(broken ? BROKEN : PASSED, sentence, "%lld, and %lld with the bug", growth, recorded);
}
