// SPDX-License-Identifier: GPL-2.0-only
/*
 * A dma-buf importer that user space controls, to test exporters. It attaches
 * any PCI device, or a device that is not PCI, and maps and unmaps on request.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "importer.h"

struct workqueue_struct *importer_wq;
struct platform_device *importer_not_pci;

/**
 * importer_get_device - look up a PCI device
 * @address: as in struct importer_attach
 *
 * Return: the device with a reference held, or NULL.
 */
struct pci_dev *importer_get_device(u32 address)
{
	return pci_get_domain_bus_and_slot(address >> 16, (address >> 8) & 0xff, address & 0xff);
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *imp = kzalloc(sizeof(*imp), GFP_KERNEL);

	if (!imp)
		return -ENOMEM;
	importer_init(imp);
	file->private_data = imp;
	return nonseekable_open(inode, file);
}

/* Signal the fence early: a revoke that waits for it holds dma_resv, which the rest needs. */
static int importer_close(struct inode *inode, struct file *file)
{
	struct importer *imp = file->private_data;

	importer_pause_free(imp);
	importer_fence_signal(imp);
	cancel_delayed_work_sync(&imp->signal);
	if (imp->attach || imp->rdma || imp->access)
		importer_detach(imp);
	mutex_destroy(&imp->lock);
	kfree(imp);
	return 0;
}

static long importer_locked_ioctl(struct importer *imp, unsigned int cmd, unsigned long arg)
{
	void __user *argp = (void __user *)arg;
	union {
		struct importer_attach attach;
		struct importer_umem umem;
		struct importer_sg_table table;
		struct importer_pause_request pause;
		struct importer_access_request access;
		struct importer_access_range range;
	} req;
	int ret;

	switch (cmd) {
	case IMPORTER_ATTACH:
		if (copy_from_user(&req.attach, argp, sizeof(req.attach)))
			return -EFAULT;
		return importer_attach(imp, &req.attach);
	case IMPORTER_UMEM:
		if (copy_from_user(&req.umem, argp, sizeof(req.umem)))
			return -EFAULT;
		return importer_umem(imp, &req.umem);
	case IMPORTER_ACCESS:
		if (copy_from_user(&req.access, argp, sizeof(req.access)))
			return -EFAULT;
		return importer_access_start(imp, &req.access);
	case IMPORTER_ACCESS_PIN:
	case IMPORTER_ACCESS_UNPIN:
	case IMPORTER_ACCESS_RW:
		if (copy_from_user(&req.range, argp, sizeof(req.range)))
			return -EFAULT;
		if (cmd == IMPORTER_ACCESS_PIN)
			return importer_access_pin(imp, &req.range);
		if (cmd == IMPORTER_ACCESS_UNPIN)
			return importer_access_unpin(imp, &req.range);
		return importer_access_rw(imp, &req.range);
	case IMPORTER_REVOKE:
		return importer_rdma_revoke(imp);
	case IMPORTER_DETACH:
		return importer_detach(imp);
	case IMPORTER_MAP:
		return importer_map(imp, arg);
	case IMPORTER_UNMAP:
		return importer_unmap(imp);
	case IMPORTER_PIN:
	case IMPORTER_UNPIN:
		return importer_pin(imp, cmd == IMPORTER_PIN);
	case IMPORTER_TABLE:
		if (copy_from_user(&req.table, argp, sizeof(req.table)))
			return -EFAULT;
		ret = importer_table(imp, &req.table);
		if (!ret && copy_to_user(argp, &req.table, sizeof(req.table)))
			ret = -EFAULT;
		return ret;
	case IMPORTER_FENCE:
		return importer_fence_add(imp, arg);
	case IMPORTER_PAUSE:
		if (copy_from_user(&req.pause, argp, sizeof(req.pause)))
			return -EFAULT;
		return importer_pause_arm(imp, &req.pause);
	case IMPORTER_PAUSE_STATE:
		return importer_pause_state(imp);
	case IMPORTER_RESUME:
		return importer_pause_end(imp);
	default:
		return -ENOTTY;
	}
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct importer *imp = file->private_data;
	void __user *argp = (void __user *)arg;
	struct importer_edu edu;
	struct importer_counts counts;
	struct importer_log log;
	struct importer_wait wait;
	long ret;

	switch (cmd) {
	case IMPORTER_RELEASE:
		if (delayed_work_pending(&imp->unmap))
			mod_delayed_work(importer_wq, &imp->unmap, 0);
		complete_all(&imp->released);
		return 0;
	case IMPORTER_SIGNAL:
		importer_fence_signal(imp);
		return 0;
	case IMPORTER_WAIT:
		if (copy_from_user(&wait, argp, sizeof(wait)))
			return -EFAULT;
		return importer_wait(imp, &wait);
	case IMPORTER_LOG:
		if (copy_from_user(&log, argp, sizeof(log)))
			return -EFAULT;
		ret = importer_log(imp, &log);
		if (!ret && copy_to_user(argp, &log, sizeof(log)))
			ret = -EFAULT;
		return ret;
	case IMPORTER_EDU:
		if (copy_from_user(&edu, argp, sizeof(edu)))
			return -EFAULT;
		return importer_edu(&edu);
	case IMPORTER_COUNTS:
		importer_counts(&counts);
		return copy_to_user(argp, &counts, sizeof(counts)) ? -EFAULT : 0;
	}

	if (mutex_lock_interruptible(&imp->lock))
		return -ERESTARTSYS;
	ret = importer_locked_ioctl(imp, cmd, arg);
	mutex_unlock(&imp->lock);
	return ret;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_close,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = IMPORTER_NAME,
	.fops = &importer_fops,
	.mode = 0600,
};

static int bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
	if (event == BUS_NOTIFY_DEL_DEVICE || event == BUS_NOTIFY_UNBIND_DRIVER)
		importer_device_lost(to_pci_dev(data), event == BUS_NOTIFY_DEL_DEVICE);
	return NOTIFY_DONE;
}

static struct notifier_block bus_notifier = { .notifier_call = bus_event };

static int __init importer_module_init(void)
{
	int ret;

	importer_wq = alloc_workqueue(IMPORTER_NAME, WQ_UNBOUND, 0);
	if (!importer_wq)
		return -ENOMEM;
	ret = bus_register_notifier(&pci_bus_type, &bus_notifier);
	if (ret)
		goto err_wq;
	ret = pci_register_driver(&importer_edu_driver);
	if (ret)
		goto err_notifier;
	importer_not_pci = platform_device_register_simple(IMPORTER_NAME, PLATFORM_DEVID_NONE,
							   NULL, 0);
	if (IS_ERR(importer_not_pci)) {
		ret = PTR_ERR(importer_not_pci);
		goto err_driver;
	}
	ret = misc_register(&importer_misc);
	if (ret)
		goto err_device;
	importer_counts_init();
	return 0;

err_device:
	platform_device_unregister(importer_not_pci);
err_driver:
	pci_unregister_driver(&importer_edu_driver);
err_notifier:
	bus_unregister_notifier(&pci_bus_type, &bus_notifier);
err_wq:
	destroy_workqueue(importer_wq);
	return ret;
}
module_init(importer_module_init);

static void __exit importer_module_exit(void)
{
	importer_counts_exit();
	misc_deregister(&importer_misc);
	platform_device_unregister(importer_not_pci);
	pci_unregister_driver(&importer_edu_driver);
	bus_unregister_notifier(&pci_bus_type, &bus_notifier);
	destroy_workqueue(importer_wq);
}
module_exit(importer_module_exit);

MODULE_DESCRIPTION("vfio-harness: dma-buf test importer");
MODULE_LICENSE("GPL");
/* MODULE_IMPORT_NS() takes a string only since 6.13. */
MODULE_INFO(import_ns, "DMA_BUF");
