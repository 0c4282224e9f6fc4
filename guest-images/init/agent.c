// SPDX-License-Identifier: GPL-2.0-only
/*
 * The SSH command that starts the guest agent. It passes its standard streams to
 * the interpreter that init started during the boot (zygote.py), waits for the
 * agent to exit, and returns the agent's exit status.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_streams(int sock)
{
	static const int streams[] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
	union {
		char buf[CMSG_SPACE(sizeof(streams))];
		struct cmsghdr align;
	} control = { 0 };
	/* SCM_RIGHTS needs at least one byte of data. */
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(streams));
	memcpy(CMSG_DATA(cmsg), streams, sizeof(streams));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

int main(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/zygote" };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned char status;

	if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof(address)) ||
	    send_streams(sock)) {
		fprintf(stderr, "%s: %s; see /run/zygote.log\n", address.sun_path, strerror(errno));
		return 1;
	}
	/* Only the agent may hold the streams: sshd must see end of file when it exits. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	return read(sock, &status, 1) == 1 ? status : 255;
}
