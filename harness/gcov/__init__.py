# SPDX-License-Identifier: GPL-2.0-only
"""Which lines and branches of the kernel's export path each case reaches, as gcov counts them in the guest."""
