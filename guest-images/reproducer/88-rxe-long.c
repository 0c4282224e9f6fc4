// SPDX-License-Identifier: GPL-2.0-only
/* Reads by rxe of more bytes than a number holds. */

static long long region_digest(struct rdma_region *region, uint64_t offset, uint32_t length)
{
	int ret = length > RDMA_CHUNK ? -E2BIG : region_copy(region, offset, length, false);

	return ret ? ret : digest(region->rxe->memory, length);
}
