// SPDX-License-Identifier: GPL-2.0-only
/*
 * Driver of QEMU's edu device as a DMA engine behind the DMA API. QEMU's
 * docs/specs/edu.rst describes the registers. It binds by driver_override only.
 */
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/iopoll.h>
#include <linux/uaccess.h>

#include "importer.h"

#define DMA_SOURCE	0x80
#define DMA_TARGET	0x88
#define DMA_COUNT	0x90
#define DMA_COMMAND	0x98
#define  DMA_START	1
#define  DMA_TO_MEMORY	2
#define BUFFER		0x40000

#define POLL_US		200
#define DEADLINE_US	(10 * USEC_PER_SEC)

struct edu {
	void __iomem *regs;
	void *staging;
	dma_addr_t staging_dma;
};

static int edu_wait(struct edu *edu)
{
	u64 busy;

	return readq_poll_timeout(edu->regs + DMA_COMMAND, busy, !(busy & DMA_START), POLL_US,
				  DEADLINE_US);
}

static int edu_dma(struct edu *edu, u64 source, u64 target, u32 count, u64 command)
{
	int ret;

	/* edu ignores writes while a DMA runs, which the previous user may have started. */
	ret = edu_wait(edu);
	if (ret)
		return ret;
	writeq(source, edu->regs + DMA_SOURCE);
	writeq(target, edu->regs + DMA_TARGET);
	writeq(count, edu->regs + DMA_COUNT);
	writeq(command | DMA_START, edu->regs + DMA_COMMAND);
	return edu_wait(edu);
}

static int edu_run(struct edu *edu, const struct importer_edu *req)
{
	u64 buffer = BUFFER + req->offset;
	int ret;

	switch (req->op) {
	case IMPORTER_EDU_LOAD:
		if (copy_from_user(edu->staging, u64_to_user_ptr(req->data), req->length))
			return -EFAULT;
		return edu_dma(edu, edu->staging_dma, buffer, req->length, 0);
	case IMPORTER_EDU_STORE:
		ret = edu_dma(edu, buffer, edu->staging_dma, req->length, DMA_TO_MEMORY);
		if (!ret && copy_to_user(u64_to_user_ptr(req->data), edu->staging, req->length))
			ret = -EFAULT;
		return ret;
	case IMPORTER_EDU_WRITE:
		return edu_dma(edu, buffer, req->data, req->length, DMA_TO_MEMORY);
	case IMPORTER_EDU_READ:
		return edu_dma(edu, req->data, buffer, req->length, 0);
	default:
		return -EINVAL;
	}
}

/**
 * importer_edu - run one DMA of an edu device
 * @req: the argument of IMPORTER_EDU
 *
 * The device's lock keeps it bound and serialises DMAs.
 *
 * Return: 0, EINVAL, EFAULT, ETIMEDOUT, or ENXIO if the device is absent or not
 * bound to this driver.
 */
int importer_edu(const struct importer_edu *req)
{
	struct pci_dev *pdev;
	int ret = -ENXIO;

	if (!req->length || req->offset > IMPORTER_EDU_SIZE ||
	    req->length > IMPORTER_EDU_SIZE - req->offset)
		return -EINVAL;
	pdev = importer_get_device(req->device);
	if (!pdev)
		return ret;
	device_lock(&pdev->dev);
	if (pdev->dev.driver == &importer_edu_driver.driver)
		ret = edu_run(pci_get_drvdata(pdev), req);
	device_unlock(&pdev->dev);
	pci_dev_put(pdev);
	return ret;
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu;
	int ret;

	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	edu->regs = pcim_iomap(pdev, 0, 0);
	if (!edu->regs)
		return -ENOMEM;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	edu->staging = dmam_alloc_coherent(&pdev->dev, PAGE_SIZE, &edu->staging_dma, GFP_KERNEL);
	if (!edu->staging)
		return -ENOMEM;

	pci_set_drvdata(pdev, edu);
	pci_set_master(pdev);
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE_DRIVER_OVERRIDE(0x1234, 0x11e8, true) },
	{ }
};

struct pci_driver importer_edu_driver = {
	.name = IMPORTER_NAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};
