// SPDX-License-Identifier: GPL-2.0-only
/* Maps of a dma-buf whose allocations fail. */

/*
 * Map with the first allocation failing, then with the second, and so on, each
 * @times times. Return how many maps were refused.
 */
static int map_without_memory(struct attachment *attachment, unsigned int times)
{
	unsigned int n, i, refused = 0;
	int fd = let_allocations_fail();
	bool failed = true;

	for (n = 1; failed && n < 1000; n++) {
		for (i = 0; i < times; i++) {
			int ret;

			fail_nth(fd, n);
			ret = map(attachment);
			failed = allocation_failed(fd);
			if (ret)
				refused++;
			else
				unmap(attachment);
		}
	}
	close(fd);
	return refused;
}
