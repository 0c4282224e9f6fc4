// SPDX-License-Identifier: GPL-2.0-only
/* Transfers of more bytes than a number holds. Reads return a digest of the data. */

#define MOST_BYTES	(1u << 20)

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

/* Return the first bytes of a controller's data page. */
static long long nvme_data(struct nvme *nvme, size_t length)
{
	long long value = 0;

	memcpy(&value, nvme->memory.at, length);
	return value;
}

/* Return a digest of the start of a controller's data page. */
static long long nvme_data_digest(struct nvme *nvme, size_t length)
{
	return digest(nvme->memory.at, length);
}

/* Let an importer read at an IOVA, up to 8 bytes as a number. */
static long long engine_load(struct engine *engine, uint64_t iova, uint32_t length)
{
	long long value = 0;
	int ret = engine->read(engine, iova, &value, length);

	return ret ? ret : value;
}

static long long engine_digest(struct engine *engine, uint64_t iova, uint32_t length)
{
	struct window window;

	one_area(&window, engine, iova, length);
	return window_digest(&window, 0, length);
}
