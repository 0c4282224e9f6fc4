// SPDX-License-Identifier: GPL-2.0-only
/* Forked processes. Each has a copy of every fd, and makes the calls that it is sent, one at a time. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct process {
	pid_t pid;
	int calls;	/* sends a call, and receives its result */
	int files;	/* passes fds (SCM_RIGHTS) */
	bool exited;
};

static int parent_files = -1;	/* in a forked process: the other end of @files */

static void serve_calls(int calls)
{
	long long (*act)(void);

	while (read(calls, &act, sizeof(act)) == sizeof(act)) {
		long long result = act();

		if (write(calls, &result, sizeof(result)) != sizeof(result))
			break;
	}
	_exit(0);
}

static int process_fork(struct process *process)
{
	int calls[2], files[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, calls) || socketpair(AF_UNIX, SOCK_STREAM, 0, files))
		return -errno;
	*process = (struct process){ .pid = fork(), .calls = calls[0], .files = files[0] };
	if (process->pid < 0)
		return -errno;
	if (!process->pid) {
		close(calls[0]);
		close(files[0]);
		parent_files = files[1];
		serve_calls(calls[1]);
	}
	close(calls[1]);
	close(files[1]);
	return 0;
}

/* Make a call in a process. Return its result, or -ESRCH if the process ends meanwhile. */
static long long process_call(struct process *process, long long (*act)(void))
{
	long long result;

	if (send(process->calls, &act, sizeof(act), MSG_NOSIGNAL) != sizeof(act) ||
	    read(process->calls, &result, sizeof(result)) != sizeof(result))
		return -ESRCH;
	return result;
}

static int process_kill(struct process *process)
{
	return kill(process->pid, SIGKILL) ? -errno : 0;
}

/* Return 1 if the process exits within @ms, and 0 if not. Its fds are closed then. */
static int process_ended(struct process *process, int ms)
{
	long long end_ms = now_ms() + ms;

	do {
		if (!process->exited)
			process->exited = waitpid(process->pid, NULL, WNOHANG) == process->pid;
		if (process->exited)
			return 1;
		sleep_ms(1);
	} while (now_ms() < end_ms);
	return 0;
}

static int process_close(struct process *process)
{
	if (!process->exited)
		kill(process->pid, SIGKILL);
	close(process->calls);
	close(process->files);
	return process_ended(process, 10000) ? 0 : -ETIMEDOUT;
}

static int send_file(int sock, int fd)
{
	char byte = '.', control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec part = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(head), &fd, sizeof(fd));
	return sendmsg(sock, &message, 0) < 0 ? -errno : 0;
}

static int receive_file(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec part = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *head;
	int fd;

	if (recvmsg(sock, &message, 0) < 0)
		return -errno;
	head = CMSG_FIRSTHDR(&message);
	if (!head)
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	return fd;
}

/* Receive the dma-buf that a process sent to its parent. */
static int process_receive(struct process *process, struct buffer *buffer)
{
	buffer->fd = receive_file(process->files);
	return buffer->fd < 0 ? buffer->fd : 0;
}

/* Become an ordinary user, without capabilities. */
static int drop_privileges(void)
{
	return setresuid(65534, 65534, 65534) ? -errno : 0;
}

static int set_file_limit(const char *limit)
{
	return write_file("/proc/sys/fs/file-max", limit);
}
