// SPDX-License-Identifier: GPL-2.0-only
/* Windows at the IOVA that the case's window had, since its later calls have it as a number. */

/* Map part of a buffer into the address space of an importer behind iommufd, at @iova. */
static int import_at(struct window *window, struct engine *engine, struct buffer *buffer,
		     uint64_t start, uint64_t length, uint64_t iova)
{
	int ret = ioas_map_file(engine->space, buffer->fd, start, length,
				IOMMU_READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA, &iova);

	if (!ret)
		one_area(window, engine, iova, length);
	return ret;
}
