// SPDX-License-Identifier: GPL-2.0-only
/* Transfers of more bytes than a number holds. Reads return a digest of the data. */

#define MOST_BYTES	(1u << 20)

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

static long long device_digest(struct device *device, int region, uint64_t offset, size_t length)
{
	static uint8_t data[MOST_BYTES];
	int ret;

	if (length > sizeof(data))
		return -E2BIG;
	ret = device_read(device, region, offset, data, length);
	return ret ? ret : digest(data, length);
}

/* Bytes from @offset on that a window moves at once: of one page, and of one block of an NVMe. */
static uint32_t part_of_window(struct window *window, uint64_t offset, uint32_t length)
{
	uint32_t room = PAGE - (window->start + offset) % PAGE;

	if (length > room)
		length = room;
	return length > 512 ? 512 : length;
}

static int window_write_long(struct window *window, uint64_t offset, const char *data,
			     uint32_t length)
{
	uint32_t done, part;
	int ret = 0;

	for (done = 0; done < length && !ret; done += part) {
		part = part_of_window(window, offset + done, length - done);
		ret = window_write(window, offset + done, data + done, part);
	}
	return ret;
}

static long long window_digest(struct window *window, uint64_t offset, uint32_t length)
{
	static uint8_t data[MOST_BYTES];
	uint32_t done, part;
	int ret = 0;

	if (length > sizeof(data))
		return -E2BIG;
	for (done = 0; done < length && !ret; done += part) {
		part = part_of_window(window, offset + done, length - done);
		ret = window_read(window, offset + done, data + done, part);
	}
	return ret ? ret : digest(data, length);
}
