// SPDX-License-Identifier: GPL-2.0-only
/* Calls that run beside the rest of the program, because they block. */
#include <pthread.h>

struct call {
	pthread_t thread;
	int (*act)(void);
	int result;
};

static void *make_call(void *data)
{
	struct call *call = data;

	call->result = call->act();
	return NULL;
}

/* Start a call, and give it time to block. */
static int start_call(struct call *call, int (*act)(void))
{
	call->act = act;
	if (pthread_create(&call->thread, NULL, make_call, call))
		return -EAGAIN;
	sleep_ms(200);
	return 0;
}

/* Wait for a call's end, and return its result. */
static int finish_call(struct call *call)
{
	pthread_join(call->thread, NULL);
	return call->result;
}
