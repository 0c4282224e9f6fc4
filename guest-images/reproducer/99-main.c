// SPDX-License-Identifier: GPL-2.0-only
/* As the guest's only program: mount, load modules, run, print the verdict, power off. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>

static const char *const console_lines[] = { "KTAP version 1", "1..1" };

static void load_modules(void)
{
	char *path, *save;
	static char order[8192];

	if (access("/dev/vdb", F_OK) || mount("/dev/vdb", MODULES_DIR, "erofs", MS_RDONLY, NULL))
		return;
	if (chdir(MODULES_DIR) || read_file("load-order", order, sizeof(order)))
		return;
	for (path = strtok_r(order, "\n", &save); path; path = strtok_r(NULL, "\n", &save)) {
		int ret = load_path(path);

		if (ret)
			say("# module %s: %s", path, error_name(-ret));
	}
}

static void start_machine(void)
{
	mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
	write_file("/proc/sys/kernel/printk_devkmsg", "on");
	load_modules();
}

/* Run the program in a process of its own, which a stuck call cannot leave. Return its status. */
static int run(void)
{
	long long end_ms = now_ms() + 1000LL * TIMEOUT_S;
	int status;
	pid_t pid = fork();

	if (!pid) {
		program();
		_exit(PASSED);
	}
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now_ms() > end_ms)
			return -ETIMEDOUT;
		sleep_ms(20);
	}
	if (!WIFEXITED(status))
		return -EINTR;
	return WEXITSTATUS(status);
}

static int verdict(int status)
{
	char line[256];

	if (status == -ETIMEDOUT) {
		say("# seen: the call after the last one above has not returned for %d s",
		    TIMEOUT_S);
		say("not ok 1 %s: %s", NAME, "a call does not return");
		return 1;
	}
	if (splat(line, sizeof(line))) {
		say("# seen in the kernel's log: %s", line);
		say("not ok 1 %s: %s", NAME, "the kernel complained");
		return 1;
	}
	if (status == PASSED || status == BROKEN) {
		say("%sok 1 %s", status == BROKEN ? "not " : "", NAME);
		return status;
	}
	if (status == NOT_JUDGED) {
		say("ok 1 %s # SKIP only an observer outside the program sees it", NAME);
		return 4;
	}
	if (status == NOT_ABLE) {
		say("ok 1 %s # SKIP the kernel is built without what the program needs", NAME);
		return 4;
	}
	say("Bail out! %s: the program did not get as far as the bug", NAME);
	return 3;
}

int main(void)
{
	size_t i;
	int ret;

	alone = getpid() == 1;
	if (alone)
		start_machine();
	for (i = 0; i < ARRAY_SIZE(console_lines); i++)
		say("%s", console_lines[i]);
	if (log_open())
		say("# /dev/kmsg: %s", error_name(errno));
	splat_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(splat_fd, 0, SEEK_END);
	ret = verdict(run());
	if (alone)
		reboot(RB_POWER_OFF);
	return ret;
}
