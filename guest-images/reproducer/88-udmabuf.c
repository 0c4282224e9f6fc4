// SPDX-License-Identifier: GPL-2.0-only
/* A dma-buf of memory. */
#include <sys/mman.h>

static int new_udmabuf(struct buffer *buffer, uint64_t length)
{
	int ret, fd = memfd_create("reproducer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, length))
		return -errno;
	ret = make_udmabuf(fd, length);
	close(fd);
	buffer->fd = ret;
	return ret < 0 ? ret : 0;
}
