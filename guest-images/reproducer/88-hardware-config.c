// SPDX-License-Identifier: GPL-2.0-only
/* Config space of the device itself, behind its driver's back. */

#define PCI_BASE_ADDRESS_0	0x10
#define PCI_BARS		24	/* bytes */

/* Open config space so that the functions of a vfio device read and write it. */
static int open_config(struct device *config, const char *bdf)
{
	*config = (struct device){ .fd = open(pci_file(bdf, "config"), O_RDWR | O_CLOEXEC) };
	return config->fd < 0 ? -errno : 0;
}

/* Read a 16-bit register by its name. */
static int hardware_register(const char *bdf, const char *name)
{
	struct device config;
	uint16_t value = 0;
	int at, ret = open_config(&config, bdf);

	if (ret)
		return ret;
	at = config_register(&config, name);
	ret = at < 0 ? at : device_read(&config, VFIO_PCI_CONFIG_REGION_INDEX, at, &value, 2);
	close(config.fd);
	return ret ? ret : value;
}

/* Read the BARs, as a digest. */
static long long hardware_bars(const char *bdf)
{
	uint8_t bars[PCI_BARS];
	struct device config;
	int ret = open_config(&config, bdf);

	if (ret)
		return ret;
	ret = device_read(&config, VFIO_PCI_CONFIG_REGION_INDEX, PCI_BASE_ADDRESS_0, bars,
			  sizeof(bars));
	close(config.fd);
	return ret ? ret : digest(bars, sizeof(bars));
}

/* Clear COMMAND and BARs as a reset does that no driver notices. */
static int lose_config(const char *bdf, bool command, bool bars)
{
	const uint8_t zero[PCI_BARS] = { 0 };
	struct device config;
	int ret = open_config(&config, bdf);

	if (ret)
		return ret;
	if (command)
		ret = device_write(&config, VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, zero, 2);
	if (!ret && bars)
		ret = device_write(&config, VFIO_PCI_CONFIG_REGION_INDEX, PCI_BASE_ADDRESS_0, zero,
				   sizeof(zero));
	close(config.fd);
	return ret;
}
