// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pause a thread between a check and its use, so that another thread runs in
 * between. A race that a test would meet by luck then happens each time.
 */
#include <linux/atomic.h>
#include <linux/kprobes.h>
#include <linux/ktime.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "importer.h"

#ifdef CONFIG_KRETPROBES
struct importer_pause {
	struct kretprobe probe;
	pid_t tgid;
	u64 limit_ns;
	atomic_t state;		/* enum importer_pause_state */
};

static const char * const points[] = {
	[IMPORTER_PAUSE_ATTACH] = "vfio_pci_dma_buf_attach",
	[IMPORTER_PAUSE_MAP] = "dma_buf_phys_vec_to_sgt",
	[IMPORTER_PAUSE_EXPORT] = "__vfio_pci_memory_enabled",
	[IMPORTER_PAUSE_CLOSE] = "dma_buf_file_release",
	[IMPORTER_PAUSE_INSERT] = "iopt_insert_area",
	[IMPORTER_PAUSE_FILL] = "iopt_area_fill_domains",
	[IMPORTER_PAUSE_PAGES] = "iopt_release_pages",
	[IMPORTER_PAUSE_FPUT] = "locks_remove_file",
	[IMPORTER_PAUSE_UMEM] = "ib_umem_dmabuf_get_with_dma_device",
	[IMPORTER_PAUSE_UNPIN] = "unpin_user_page_range_dirty_lock",
	[IMPORTER_PAUSE_UNLOCK] = "ww_mutex_unlock",
	[IMPORTER_PAUSE_IOVA] = "free_iova_fast",
	[IMPORTER_PAUSE_TABLE] = "sg_free_table",
	[IMPORTER_PAUSE_ALIGNMENT] = "iopt_calculate_iova_alignment",
};

/*
 * Runs with preemption off, so it cannot sleep. Interrupts stay on: a return
 * probe, unlike one at a function's entry, does not run in the trap itself.
 */
static int pause_caller(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct importer_pause *pause = container_of(get_kretprobe(instance), struct importer_pause,
						    probe);
	u64 end;

	if (current->tgid != pause->tgid ||
	    atomic_cmpxchg(&pause->state, IMPORTER_PAUSE_ARMED, IMPORTER_PAUSE_ON) !=
	    IMPORTER_PAUSE_ARMED)
		return 0;

	end = ktime_get_mono_fast_ns() + pause->limit_ns;
	while (atomic_read(&pause->state) == IMPORTER_PAUSE_ON) {
		if (ktime_get_mono_fast_ns() > end)
			atomic_cmpxchg(&pause->state, IMPORTER_PAUSE_ON, IMPORTER_PAUSE_EXPIRED);
		cpu_relax();
	}
	return 0;
}

static struct importer_pause *pause_create(void)
{
	struct importer_pause *pause = kzalloc(sizeof(*pause), GFP_KERNEL);

	if (pause)
		pause->tgid = current->tgid;
	return pause;
}

/**
 * importer_pause_arm - pause the next thread of this process at a point
 * @imp: the importer; the caller holds its lock
 * @req: where, and for how long at most
 *
 * Return: 0, EINVAL, EBUSY if the file has a pause, ENOMEM, ENOENT if the
 * kernel has no such function, or another errno of register_kretprobe().
 */
int importer_pause_arm(struct importer *imp, const struct importer_pause_request *req)
{
	struct importer_pause *pause;
	int ret;

	if (req->point >= ARRAY_SIZE(points) || !req->limit_ms ||
	    req->limit_ms > IMPORTER_MAX_PAUSE_MS)
		return -EINVAL;
	if (imp->pause)
		return -EBUSY;
	pause = pause_create();
	if (!pause)
		return -ENOMEM;

	pause->limit_ns = (u64)req->limit_ms * NSEC_PER_MSEC;
	pause->probe.kp.symbol_name = points[req->point];
	pause->probe.handler = pause_caller;
	ret = register_kretprobe(&pause->probe);
	if (ret) {
		kfree(pause);
		return ret;
	}
	imp->pause = pause;
	return 0;
}

/**
 * importer_pause_state - how far the pause is
 * @imp: the importer; the caller holds its lock
 *
 * Return: enum importer_pause_state, or EBADFD without a pause.
 */
int importer_pause_state(struct importer *imp)
{
	return imp->pause ? atomic_read(&imp->pause->state) : -EBADFD;
}

/**
 * importer_pause_end - let the paused thread go on
 * @imp: the importer; the caller holds its lock
 *
 * Return: 0, or EBADFD without a pause.
 */
int importer_pause_end(struct importer *imp)
{
	if (!imp->pause)
		return -EBADFD;
	if (atomic_cmpxchg(&imp->pause->state, IMPORTER_PAUSE_ON, IMPORTER_PAUSE_OVER) ==
	    IMPORTER_PAUSE_ARMED)
		atomic_set(&imp->pause->state, IMPORTER_PAUSE_OVER);
	return 0;
}

/**
 * importer_pause_free - end the pause, if there is one, and remove its probe
 * @imp: the importer
 */
void importer_pause_free(struct importer *imp)
{
	if (importer_pause_end(imp))
		return;
	unregister_kretprobe(&imp->pause->probe);
	kfree(imp->pause);
	imp->pause = NULL;
}
#else
int importer_pause_arm(struct importer *imp, const struct importer_pause_request *req)
{
	return -EOPNOTSUPP;
}

int importer_pause_state(struct importer *imp)
{
	return -EBADFD;
}

int importer_pause_end(struct importer *imp)
{
	return -EBADFD;
}

void importer_pause_free(struct importer *imp)
{
}
#endif
