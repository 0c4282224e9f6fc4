// SPDX-License-Identifier: GPL-2.0-only
/* Kernel modules, without modprobe. */
#include <ftw.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MODULES_DIR	"/kernel"

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

/* Load the module at @path with its parameters on the kernel's command line. */
static int load_path(const char *path)
{
	char cmdline[4096], params[1024] = "", *word, *save;
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t used = 0;
	int fd, ret;

	if (read_file("/proc/cmdline", cmdline, sizeof(cmdline)))
		return -errno;
	for (word = strtok_r(cmdline, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		size_t len = strcspn(name, ".");

		if (names_module(word, name, len) && used < sizeof(params))
			used += snprintf(params + used, sizeof(params) - used, "%s ",
					 word + len + 1);
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, params, 0) && errno != EEXIST ? -errno : 0;
	close(fd);
	return ret;
}

static const char *module_wanted;
static int module_result;

static int load_if_wanted(const char *path, const struct stat *st, int kind)
{
	const char *name = strrchr(path, '/') + 1;

	(void)st;
	if (kind != FTW_F || strcspn(name, ".") != strlen(module_wanted) ||
	    !names_module(name, module_wanted, strlen(module_wanted)))
		return 0;
	module_result = load_path(path);
	return 1;
}

/* Load a module that the boot does not load. What it needs is loaded already. */
static int load_module(const char *name)
{
	module_wanted = name;
	module_result = -ENOENT;
	if (ftw(MODULES_DIR, load_if_wanted, 16) < 0 && errno != ENOENT)
		return -errno;
	if (module_result == -ENOENT && !alone) {
		char command[128];

		snprintf(command, sizeof(command), "modprobe %s", name);
		return system(command) ? -ENOENT : 0;
	}
	return module_result;
}
