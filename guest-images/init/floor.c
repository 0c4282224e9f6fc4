// SPDX-License-Identifier: GPL-2.0-only
/*
 * An init that powers off at once. vfio-harness bench measures it as the lower
 * bound of a boot.
 */
#include <sys/reboot.h>

int main(void)
{
	return reboot(RB_POWER_OFF);
}
