// SPDX-License-Identifier: GPL-2.0-only
/* Calls whose result is data, which only the values of errnos make an error. */

static bool is_errno(long long value)
{
	return value < 0 && value >= -4095;
}

/* A read of the program's set-up, which must succeed. */
static void need_value(long long value, const char *call)
{
	if (is_errno(value))
		end(NOT_RUN, "the set-up of the test succeeds", "%s: %s", call,
		    error_name(-value));
	say("# %s = %#llx", call, value);
}

#define need_read(call)		need_value(call, #call)

/* A read that the kernel must let through. */
static void accept_read(long long value, const char *call, const char *sentence)
{
	if (is_errno(value))
		end(BROKEN, sentence, "%s: %s", call, error_name(-value));
	say("# %s = %#llx", call, value);
}

#define must_be_read(call, sentence)	accept_read(call, #call, sentence)
