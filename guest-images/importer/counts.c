// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counts that no file of the kernel shows: users of vfio devices, and IOVAs.
 *
 * Freed IOVAs stay in per-CPU caches (iova_rcache), so neither the slab nor an
 * IOVA domain's tree shows how many are in use. Probes count the calls instead.
 */
#include <linux/atomic.h>
#include <linux/kprobes.h>
#include <linux/pci.h>
#include <linux/vfio.h>

#include "importer.h"

#ifdef CONFIG_KPROBES
static atomic64_t iovas;
static atomic64_t iova_pages;
static bool counting;

/* alloc_iova_fast(iovad, size, limit_pfn, flush_rcache): keep the size for the return. */
static int alloc_called(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	*(unsigned long *)ri->data = regs_get_kernel_argument(regs, 1);
	return 0;
}

static int alloc_returned(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (regs_return_value(regs)) {
		atomic64_inc(&iovas);
		atomic64_add(*(unsigned long *)ri->data, &iova_pages);
	}
	return 0;
}

/* free_iova_fast(iovad, pfn, size) */
static int free_called(struct kprobe *probe, struct pt_regs *regs)
{
	atomic64_dec(&iovas);
	atomic64_sub(regs_get_kernel_argument(regs, 2), &iova_pages);
	return 0;
}

static struct kretprobe alloc_probe = {
	.kp.symbol_name = "alloc_iova_fast",
	.entry_handler = alloc_called,
	.handler = alloc_returned,
	.data_size = sizeof(unsigned long),
	.maxactive = 64,
};

static struct kprobe free_probe = {
	.symbol_name = "free_iova_fast",
	.pre_handler = free_called,
};

/**
 * importer_counts_init - begin to count IOVAs
 *
 * A kernel without these functions has no IOVAs to count, so this cannot fail.
 */
void importer_counts_init(void)
{
	if (register_kretprobe(&alloc_probe))
		return;
	if (register_kprobe(&free_probe)) {
		unregister_kretprobe(&alloc_probe);
		return;
	}
	counting = true;
}

/**
 * importer_counts_exit - end what importer_counts_init() began
 */
void importer_counts_exit(void)
{
	if (!counting)
		return;
	unregister_kprobe(&free_probe);
	unregister_kretprobe(&alloc_probe);
}

static void count_iovas(struct importer_counts *counts)
{
	if (!counting)
		return;
	counts->flags |= IMPORTER_COUNTS_IOVAS;
	counts->iovas = atomic64_read(&iovas);
	counts->iova_pages = atomic64_read(&iova_pages);
	counts->missed = alloc_probe.nmissed + alloc_probe.kp.nmissed + free_probe.nmissed;
}
#else
void importer_counts_init(void)
{
}

void importer_counts_exit(void)
{
}

static void count_iovas(struct importer_counts *counts)
{
}
#endif

static int count_users(struct device *dev, void *data)
{
	u32 *users = data;
	u32 count;

	if (!dev->class || strcmp(dev->class->name, "vfio-dev"))
		return 0;
	/* Registration itself is one. */
	count = refcount_read(&container_of(dev, struct vfio_device, device)->refcount);
	if (count)
		*users += count - 1;
	return 0;
}

/**
 * importer_counts - count what is in use in the whole kernel
 * @counts: the argument of IMPORTER_COUNTS
 */
void importer_counts(struct importer_counts *counts)
{
	struct pci_dev *pdev = NULL;

	memset(counts, 0, sizeof(*counts));
	for_each_pci_dev(pdev)
		device_for_each_child(&pdev->dev, &counts->registrations, count_users);
	count_iovas(counts);
}
