// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a doorbell that an importer rang arrived, as the guest sees it. The
 * harness also has the trace of the device model; the program has only what the
 * controller did, and what the IOMMU's driver logged.
 */

#define NOT_ASKED	(-1)

/* @completed: whether the command ran, or NOT_ASKED. */
static void must_arrive(int completed, const char *sentence)
{
	int faults = dma_faults();

	if (completed == 0 || faults)
		end(BROKEN, sentence, "the command %s; the log has %d DMA faults",
		    completed == 0 ? "did not complete" : "completed", faults);
	say("# the doorbell arrived");
}

/* @completed: as in must_arrive(). A refusal leaves a fault in the log. */
static void must_be_blocked(int completed, const char *sentence)
{
	int faults = dma_faults();

	if (completed == 1 || !faults)
		end(BROKEN, sentence, "the command %s; the log has %d DMA faults",
		    completed == 1 ? "completed" : "did not complete", faults);
	say("# the doorbell was blocked: %d DMA faults", faults);
}
