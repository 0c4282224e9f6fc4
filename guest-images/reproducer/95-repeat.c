// SPDX-License-Identifier: GPL-2.0-only
/* One call many times. */

/* Return what each call gives, or -EILSEQ if they differ. */
static int repeat(int (*act)(void), unsigned int times)
{
	int first = act();

	while (--times) {
		if ((act() < 0 ? -1 : 0) != (first < 0 ? -1 : 0))
			return -EILSEQ;
	}
	return first;
}
