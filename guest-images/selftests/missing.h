/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel's own tests call and do not define. It is included first in each of their files, so a definition of
 * theirs, which is a macro, replaces it.
 */
#include <stdlib.h>

/*
 * tools/testing/selftests/vfio/lib/vfio_pci_device.c of 7.2.12 calls it. 7.3 defines it, in
 * lib/include/libvfio/assert.h.
 */
static inline void *calloc_assert(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		abort();
	return memory;
}
