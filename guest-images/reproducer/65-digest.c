// SPDX-License-Identifier: GPL-2.0-only
/* Data of more bytes than a number holds. */

/* Return the 64-bit FNV-1a hash of bytes, without its sign. */
static long long digest(const uint8_t *data, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	while (length--) {
		hash ^= *data++;
		hash *= 0x100000001b3ull;
	}
	return hash & INT64_MAX;
}
