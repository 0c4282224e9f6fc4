// SPDX-License-Identifier: GPL-2.0-only
/* The least a guest can do: started as init= it powers off. How long that takes is the floor of any boot. */
#include <sys/reboot.h>

int main(void)
{
	return reboot(RB_POWER_OFF);
}
