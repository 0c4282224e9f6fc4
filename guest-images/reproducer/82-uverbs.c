// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's RDMA verbs: its write() commands, and the ioctl that registers a
 * dma-buf as a memory region (drivers/infiniband/core/uverbs_std_types_mr.c).
 */
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>

#define RDMA_ACCESS	(IB_UVERBS_ACCESS_LOCAL_WRITE | IB_UVERBS_ACCESS_REMOTE_WRITE | \
			 IB_UVERBS_ACCESS_REMOTE_READ)

struct uverbs {
	int fd;
	int events;
	uint32_t pd;
};

/* Make a command. Its response has @room bytes. */
static int uverbs_command(int fd, uint32_t command, const void *body, size_t size, size_t room)
{
	uint8_t request[256];
	struct ib_uverbs_cmd_hdr header = {
		.command = command,
		.in_words = (sizeof(header) + size) / 4,
		.out_words = room / 4,
	};

	memcpy(request, &header, sizeof(header));
	memcpy(request + sizeof(header), body, size);
	return write(fd, request, sizeof(header) + size) < 0 ? -errno : 0;
}

/* Open the node of an RDMA device. */
static int open_uverbs(const char *link)
{
	char path[96], name[64];
	int i;

	for (i = 0; i < 32; i++) {
		snprintf(path, sizeof(path), "/sys/class/infiniband_verbs/uverbs%d/ibdev", i);
		if (read_file(path, name, sizeof(name)) || strcmp(name, link))
			continue;
		snprintf(path, sizeof(path), "/dev/infiniband/uverbs%d", i);
		i = open(path, O_RDWR | O_CLOEXEC);
		return i < 0 ? -errno : i;
	}
	return -ENODEV;
}

static int alloc_pd(struct uverbs *verbs)
{
	struct ib_uverbs_alloc_pd_resp response;
	struct ib_uverbs_alloc_pd request = { .response = (uintptr_t)&response };
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_ALLOC_PD, &request, sizeof(request),
				 sizeof(response));

	verbs->pd = response.pd_handle;
	return ret;
}

/* Open an RDMA device, with a protection domain. */
static int uverbs_open(struct uverbs *verbs, const char *link)
{
	struct ib_uverbs_get_context_resp response;
	struct ib_uverbs_get_context request = { .response = (uintptr_t)&response };
	int ret;

	verbs->fd = open_uverbs(link);
	if (verbs->fd < 0)
		return verbs->fd;
	ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_GET_CONTEXT, &request, sizeof(request),
			     sizeof(response));
	verbs->events = response.async_fd;
	return ret ? ret : alloc_pd(verbs);
}

/* Close the device. The kernel frees what the program has made of it. */
static int uverbs_close(struct uverbs *verbs)
{
	close(verbs->events);
	return close(verbs->fd) ? -errno : 0;
}

/* Register memory of this process. Return its lkey, which is also its rkey. */
static int register_memory(struct uverbs *verbs, void *memory, size_t length, uint32_t *key)
{
	struct ib_uverbs_reg_mr_resp response;
	struct ib_uverbs_reg_mr request = {
		.response = (uintptr_t)&response,
		.start = (uintptr_t)memory,
		.length = length,
		.hca_va = (uintptr_t)memory,
		.pd_handle = verbs->pd,
		.access_flags = RDMA_ACCESS,
	};
	int ret = uverbs_command(verbs->fd, IB_USER_VERBS_CMD_REG_MR, &request, sizeof(request),
				 sizeof(response));

	*key = response.lkey;
	return ret;
}

#define MOST_ATTRIBUTES	12

/* A method of the MR object, with its attributes. */
struct mr_call {
	struct ib_uverbs_ioctl_hdr header;
	struct ib_uverbs_attr attributes[MOST_ATTRIBUTES];
};

/* Add an attribute. @length is 0 for a handle or an fd, which @data holds. */
static void add_attribute(struct mr_call *request, uint16_t id, uint16_t length, uint64_t data)
{
	request->attributes[request->header.num_attrs++] = (struct ib_uverbs_attr){
		.attr_id = id,
		.len = length,
		.flags = UVERBS_ATTR_F_MANDATORY,
		.data = data,
	};
}

static int call_mr_method(struct uverbs *verbs, uint16_t method, struct mr_call *request)
{
	request->header.length = sizeof(request->header) +
			      request->header.num_attrs * sizeof(request->attributes[0]);
	request->header.object_id = UVERBS_OBJECT_MR;
	request->header.method_id = method;
	request->header.driver_id = RDMA_DRIVER_RXE;
	return ioctl(verbs->fd, RDMA_VERBS_IOCTL, request) ? -errno : 0;
}

static int deregister(struct uverbs *verbs, uint32_t handle)
{
	struct mr_call request = { 0 };

	add_attribute(&request, UVERBS_ATTR_DESTROY_MR_HANDLE, 0, handle);
	return call_mr_method(verbs, UVERBS_METHOD_MR_DESTROY, &request);
}
