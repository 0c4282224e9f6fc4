// SPDX-License-Identifier: GPL-2.0-only
/* What the status of an RDMA transfer says. An importer that the IOMMU refuses has no status. */

#define must_arrive_by_rdma(completed, result, sentence)		\
	judge_ring(completed, result, true, sentence)

#define must_be_refused_by_rdma(completed, result, sentence)		\
	judge_ring(completed, result, false, sentence)

/*
 * Judge a doorbell. @completed: whether the command ran, or NOT_ASKED. @result: that
 * of the transfer which rang it.
 */
static void judge_ring(int completed, int result, bool arrives, const char *sentence)
{
	int faults = dma_faults();
	bool refused = result || faults;

	if (result && result != -EREMOTEIO)
		end(NOT_RUN, "the transfer ends with a status", "%s", error_name(-result));
	if (arrives ? completed == 0 || refused : completed == 1 || !refused)
		end(BROKEN, sentence, "the command %s; the transfer's status is %s; %d DMA faults",
		    completed == 1 ? "completed" : completed == 0 ? "did not complete" :
		    "was not asked for", status_name(rdma_status), faults);
	say("# the doorbell %s", arrives ? "arrived" : "was refused");
}

/* A transfer that must end with this status. */
static void end_transfer(int result, const char *call, const char *status, const char *sentence)
{
	if (strcmp(status_name(rdma_status), status))
		end(BROKEN, sentence, "%s ended with %s, not %s", call, status_name(rdma_status),
		    status);
	say("# %s: %s", call, result ? status : "succeeded");
}

#define must_end_with(call, status, sentence)	end_transfer(call, #call, status, sentence)

/* Return 1 if a transfer ends with another status than with the bug. */
static int other_status(int result, const char *recorded)
{
	say("# status %s, and %s with the bug", status_name(rdma_status), recorded);
	return result != -ETIMEDOUT && strcmp(status_name(rdma_status), recorded);
}

/* The program's last transfers: with the bug each of them has its recorded status. */
static void judge_statuses(int others, const char *sentence)
{
	end(others ? PASSED : BROKEN, sentence, "%d of the transfers ended otherwise than with the bug",
	    others);
}
