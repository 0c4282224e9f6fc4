#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Usage: container-entrypoint.sh ARGUMENT...
# Run `vfio-harness ARGUMENT...` with the guest image of the container in the cache.
# The cache is a volume, or a directory of the host, so it may be empty. Its copy belongs to the user of this process:
# ssh accepts no private key that others may read.
set -eu

built=${VFIO_HARNESS_BUILT:-/usr/local/share/vfio-harness}/image
for image in "$built"/*/; do
	copy=$VFIO_HARNESS_CACHE/image/$(basename "$image")
	[ ! -d "$copy" ] || continue
	mkdir -p "$VFIO_HARNESS_CACHE/image"
	# mkdir names a directory of its own for each container that starts at this moment. Only one copy is kept.
	part=$(mktemp -d "$VFIO_HARNESS_CACHE/image/.XXXXXX.partial")
	cp "$image"* "$part"
	chmod 600 "$part/ssh_key"
	mv -T "$part" "$copy" 2>/dev/null || rm -rf "$part"
done
[ -w "${HOME:-/}" ] || export HOME=/tmp # a user without an entry in /etc/passwd
exec vfio-harness "$@"
