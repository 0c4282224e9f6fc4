// SPDX-License-Identifier: GPL-2.0-only
/* PCI devices through sysfs. */

static const char *pci_file(const char *bdf, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/%.63s", bdf, name);
	return path;
}

static int pci_unbind(const char *bdf)
{
	if (access(pci_file(bdf, "driver"), F_OK))
		return 0;
	return write_file(pci_file(bdf, "driver/unbind"), bdf);
}

/* Bind a device to a driver, which it may have already. */
static int pci_bind(const char *bdf, const char *driver)
{
	char found[64] = "";
	int ret;

	if (!link_target(pci_file(bdf, "driver"), found, sizeof(found)) && !strcmp(found, driver))
		return 0;
	ret = pci_unbind(bdf);
	if (!ret)
		ret = write_file(pci_file(bdf, "driver_override"), driver);
	if (!ret)
		ret = write_file("/sys/bus/pci/drivers_probe", bdf);
	if (!ret)
		ret = link_target(pci_file(bdf, "driver"), found, sizeof(found));
	return ret ? ret : strcmp(found, driver) ? -ENODEV : 0;
}

/* Reset a device as an administrator does. */
static int pci_reset(const char *bdf)
{
	return write_file(pci_file(bdf, "reset"), "1");
}

static int pci_set_reset_methods(const char *bdf, const char *methods)
{
	return write_file(pci_file(bdf, "reset_method"), methods);
}

static int pci_enable_vfs(const char *bdf, const char *count)
{
	return write_file(pci_file(bdf, "sriov_numvfs"), count);
}

/* Return the number of the power state: 0 for D0 to 3 for D3hot. */
static int pci_power_state(const char *bdf)
{
	char state[32];
	int ret = read_file(pci_file(bdf, "power_state"), state, sizeof(state));

	return ret ? ret : state[1] - '0';
}

/* Return 1 if the kernel suspends the device within @ms, and 0 if not. */
static int pci_suspended(const char *bdf, int ms)
{
	long long end_ms = now_ms() + ms;
	char status[32];

	do {
		int ret = read_file(pci_file(bdf, "power/runtime_status"), status, sizeof(status));

		if (ret)
			return ret;
		if (!strcmp(status, "suspended"))
			return 1;
		sleep_ms(10);
	} while (now_ms() < end_ms);
	return 0;
}

/* Return whether an IOMMU translates the addresses of the device's driver. */
static bool pci_translated(const char *bdf)
{
	char kind[32] = "";

	return !read_file(pci_file(bdf, "iommu_group/type"), kind, sizeof(kind)) &&
	       !strncmp(kind, "DMA", 3);
}
