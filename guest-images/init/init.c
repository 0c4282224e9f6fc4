// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of the guest. It mounts file systems, loads modules, sets addresses, and
 * starts the SSH server and the agent's interpreter. Then it reaps children.
 *
 * The SSH server, the interpreter and the module loading each run in a process
 * of their own, so that they start in parallel.
 *
 * The host reads these lines from the console. They go through /dev/kmsg, so no
 * kernel message splits them:
 *   vfio-harness: listening            the SSH server accepts connections
 *   vfio-harness: ready                and every module of load-order is loaded
 *   vfio-harness: init failed: <what>  printed once in place of ready; the guest
 *                                      stays up so that it can be inspected
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define MODULES_DEV	"/dev/vdb"
#define MODULES_DIR	"/kernel"	/* /usr/lib/modules is a link into it */
#define SSHD_LOG	"/run/dropbear.log"

#define NO_DEV		(MS_NOSUID | MS_NODEV)
#define NO_EXEC		(NO_DEV | MS_NOEXEC)

static bool failed;

/* Write a line to the kernel log. Its level <1> reaches any console. */
static void write_kmsg(char *line)
{
	size_t len = strlen(line);
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	/* snprintf() may have cut it off. Without it the kernel holds the line back. */
	line[len - 1] = '\n';
	if (fd < 0 || write(fd, line, len) < 0)
		dprintf(STDERR_FILENO, "%s", line + strlen("<1>"));
	if (fd >= 0)
		close(fd);
}

#define report(fmt, ...)							\
	do {									\
		char line[512];							\
										\
		snprintf(line, sizeof(line), "<1>vfio-harness: " fmt "\n",	\
			 ##__VA_ARGS__);					\
		write_kmsg(line);						\
	} while (0)

/* Report only the first failure, since it may cause the others. */
#define fail(fmt, ...)								\
	do {									\
		if (!failed)							\
			report("init failed: " fmt, ##__VA_ARGS__);		\
		failed = true;							\
	} while (0)

struct mountpoint {
	const char *type;
	const char *dir;
	const char *data;
	unsigned long flags;
	bool optional;		/* the kernel may lack it */
};

/* The SSH server and the interpreter need these to start. */
static const struct mountpoint first_mounts[] = {
	{ .type = "devtmpfs", .dir = "/dev", .flags = MS_NOSUID, .data = "mode=0755" },
	{ .type = "proc", .dir = "/proc", .flags = NO_EXEC },
	{ .type = "tmpfs", .dir = "/run", .flags = NO_DEV, .data = "mode=0755" },
};

static const struct mountpoint other_mounts[] = {
	{ .type = "devpts", .dir = "/dev/pts", .flags = MS_NOSUID | MS_NOEXEC,
	  .data = "mode=0620,ptmxmode=0666" },
	{ .type = "tmpfs", .dir = "/dev/shm", .flags = NO_DEV, .data = "mode=1777" },
	{ .type = "tmpfs", .dir = "/tmp", .flags = NO_DEV, .data = "mode=1777" },
	{ .type = "sysfs", .dir = "/sys", .flags = NO_EXEC },
	{ .type = "debugfs", .dir = "/sys/kernel/debug", .flags = NO_EXEC, .optional = true },
	{ .type = "tracefs", .dir = "/sys/kernel/tracing", .flags = NO_EXEC, .optional = true },
};

static void mount_all(const struct mountpoint *m, size_t count)
{
	for (; count; m++, count--) {
		mkdir(m->dir, 0755);	/* on a tmpfs; elsewhere the image has it */
		if (!mount(m->type, m->dir, m->type, m->flags, m->data))
			continue;
		if (errno == EBUSY)	/* CONFIG_DEVTMPFS_MOUNT */
			continue;
		if (m->optional && (errno == ENODEV || errno == ENOENT))
			continue;
		fail("mount %s on %s: %s", m->type, m->dir, strerror(errno));
	}
}

/* Read a whole small file; the caller frees it. Return NULL and set errno on failure. */
static char *slurp(const char *path)
{
	size_t size = 0, room = 4096;
	char *text = malloc(room);
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !text)
		goto err;
	while ((n = read(fd, text + size, room - size - 1)) > 0) {
		size += n;
		if (size < room - 1)
			continue;
		room *= 2;
		text = realloc(text, room);
		if (!text)
			break;
	}
	if (n < 0 || !text)
		goto err;
	text[size] = '\0';
	close(fd);
	return text;
err:
	if (fd >= 0)
		close(fd);
	free(text);
	return NULL;
}

/* Return true if @word is "<module>.<parameter>...". '-' and '_' are equal in a module's name. */
static bool names_module(const char *word, const char *module, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if ((word[i] == '-' ? '_' : word[i]) != (module[i] == '-' ? '_' : module[i]))
			return false;
	}
	return word[len] == '.';
}

/*
 * Collect the parameters for the module at @path from the kernel command line
 * ("iommufd.allow_unsafe_interrupts=1"). The kernel applies them to built-in code
 * only; modprobe would apply them to modules, but finit_module() does not.
 */
static void module_params(const char *path, char *cmdline, char *params, size_t room)
{
	const char *name = strrchr(path, '/');
	size_t len, used = 0;
	char *word, *save;

	name = name ? name + 1 : path;
	len = strcspn(name, ".");
	params[0] = '\0';
	for (word = strtok_r(cmdline, "\n ", &save); word; word = strtok_r(NULL, "\n ", &save)) {
		if (!names_module(word, name, len))
			continue;
		used += snprintf(params + used, room - used, "%s ", word + len + 1);
		if (used >= room)
			return;
	}
}

static int load_module(const char *path, const char *cmdline)
{
	char params[1024], *words = strdup(cmdline);
	int fd, ret;

	if (!words)
		return -1;
	module_params(path, words, params, sizeof(params));
	free(words);

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ret = syscall(SYS_finit_module, fd, params, 0);
	if (ret && errno == EEXIST)	/* built in */
		ret = 0;
	close(fd);
	return ret;
}

/* Load the modules in the order of load-order. Do nothing without a modules disk. */
static int load_modules(void)
{
	char *order, *path, *save, *cmdline;

	if (access(MODULES_DEV, F_OK))
		return 0;
	if (mount(MODULES_DEV, MODULES_DIR, "erofs", MS_RDONLY, NULL)) {
		fail("mount %s: %s", MODULES_DEV, strerror(errno));
		return 1;
	}
	order = chdir(MODULES_DIR) ? NULL : slurp("load-order");
	if (!order) {
		fail("load-order of %s: %s", MODULES_DEV, strerror(errno));
		return 1;
	}
	cmdline = slurp("/proc/cmdline");
	if (!cmdline) {
		fail("/proc/cmdline: %s", strerror(errno));
		return 1;
	}
	for (path = strtok_r(order, "\n", &save); path; path = strtok_r(NULL, "\n", &save)) {
		if (load_module(path, cmdline)) {
			fail("module %s: %s", path, strerror(errno));
			return 1;
		}
	}
	return 0;
}

/*
 * Derive a NIC's address from its MAC address, which the harness chose:
 * 52:54:00:76:66:01 is the management NIC, 52:54:00:76:66:1N is on RoCE network N.
 */
static bool address_of(const unsigned char *mac, char *address, size_t room)
{
	static const unsigned char prefix[] = { 0x52, 0x54, 0x00, 0x76, 0x66 };

	if (memcmp(mac, prefix, sizeof(prefix)))
		return false;
	if (mac[5] == 0x01)
		snprintf(address, room, "10.0.2.15");
	else if (mac[5] >= 0x10 && mac[5] <= 0x19)
		snprintf(address, room, "192.168.66.%x", mac[5]);
	else
		return false;
	return true;
}

static int set_address(int sock, struct ifreq *ifr, unsigned long request, const char *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr->ifr_addr;

	memset(in, 0, sizeof(*in));
	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	return ioctl(sock, request, ifr);
}

static int bring_up(int sock, struct ifreq *ifr, const char *address)
{
	if (set_address(sock, ifr, SIOCSIFADDR, address) ||
	    set_address(sock, ifr, SIOCSIFNETMASK, "255.255.255.0") ||
	    ioctl(sock, SIOCGIFFLAGS, ifr))
		return -1;
	ifr->ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(sock, SIOCSIFFLAGS, ifr);
}

/* Bring up lo and the harness's NICs. There is no default route: the guest reaches no network. */
static void configure_network(void)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct if_nameindex *nics, *nic;

	nics = if_nameindex();
	if (sock < 0 || !nics) {
		fail("network: %s", strerror(errno));
		return;
	}
	for (nic = nics; nic->if_index; nic++) {
		char address[INET_ADDRSTRLEN] = "127.0.0.1";
		struct ifreq ifr = { 0 };

		memcpy(ifr.ifr_name, nic->if_name, strnlen(nic->if_name, IFNAMSIZ - 1));
		if (strcmp(nic->if_name, "lo")) {
			if (ioctl(sock, SIOCGIFHWADDR, &ifr) ||
			    !address_of((unsigned char *)ifr.ifr_hwaddr.sa_data, address,
					sizeof(address)))
				continue;
		}
		if (bring_up(sock, &ifr, address))
			fail("%s: address %s: %s", nic->if_name, address, strerror(errno));
	}
	if_freenameindex(nics);
	close(sock);
}

/* Run @argv in a new session, with @input as standard input and its output in @log. */
static pid_t spawn(char *const argv[], int input, const char *log)
{
	pid_t pid = fork();
	sigset_t none;
	int fd;

	if (pid)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	dup2(input, STDIN_FILENO);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	execv(argv[0], argv);
	dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* dropbear forks once it listens, so exit status 0 of the first process means that SSH works. */
static pid_t start_sshd(void)
{
	static char *const argv[] = {
		"/usr/sbin/dropbear",
		"-E",					/* messages to SSHD_LOG */
		"-r", "/etc/dropbear/host_key",
		"-s", "-j", "-k",			/* keys only, no forwarding */
		"-W", "1048576",			/* the agent's upload fits in one window */
		NULL
	};

	return spawn(argv, open("/dev/null", O_RDONLY | O_CLOEXEC), SSHD_LOG);
}

/* Listen on the socket first, so that a client can connect while the interpreter starts. */
static void start_interpreter(void)
{
	static char *const argv[] = {
		"/usr/bin/python3", "-I", "-S", "/usr/lib/vfio-harness/zygote.py", NULL
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/zygote" };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(sock, 8) || spawn(argv, sock, "/run/zygote.log") < 0)
		fail("agent's interpreter: %s", strerror(errno));
	close(sock);
}

static pid_t start_modules(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	/* The SSH server and the interpreter take longer to start, so they get the CPU first. */
	setpriority(PRIO_PROCESS, 0, 5);
	_exit(load_modules());
}

static void sshd_failed(int status)
{
	char *log = slurp(SSHD_LOG);

	if (log)
		log[strcspn(log, "\n")] = '\0';
	fail("SSH server ended with status 0x%x: %s", status, log ? log : "no message");
	free(log);
}

static void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	fail("power off: %s", strerror(errno));
}

int main(void)
{
	static const int wanted[] = { SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGUSR2 };
	pid_t sshd, modules, pid;
	sigset_t signals;
	size_t i;
	int status, sig;

	sigemptyset(&signals);
	for (i = 0; i < ARRAY_SIZE(wanted); i++)
		sigaddset(&signals, wanted[i]);
	sigprocmask(SIG_BLOCK, &signals, NULL);

	setenv("PATH", "/usr/sbin:/usr/bin", 1);
	setenv("HOME", "/root", 1);
	sethostname("vfio-harness", strlen("vfio-harness"));

	mount_all(first_mounts, ARRAY_SIZE(first_mounts));
	start_interpreter();
	sshd = start_sshd();
	modules = start_modules();
	configure_network();
	mount_all(other_mounts, ARRAY_SIZE(other_mounts));
	if (sshd < 0 || modules < 0)
		fail("fork: %s", strerror(errno));

	do {
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			if (pid == sshd) {
				sshd = 0;
				if (status)
					sshd_failed(status);
				else if (!failed)
					report("listening");
			} else if (pid == modules) {
				modules = 0;
				if (WIFEXITED(status) && WEXITSTATUS(status))
					failed = true;	/* the child has reported why */
				else if (status)
					fail("loading modules ended with status 0x%x", status);
			} else {
				continue;
			}
			if (!sshd && !modules && !failed)
				report("ready");
		}
		sig = sigwaitinfo(&signals, NULL);
	} while (sig < 0 || sig == SIGCHLD);
	power_off();
	return 1;
}
