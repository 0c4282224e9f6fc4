#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Usage: install-packages.sh [bugs] [test]
# Install the missing Debian packages of packages.txt: the `needed` and `optional` ones, and those of each argument.
# Works without a question as root or with passwordless sudo. Otherwise print the one line to type.
set -eu

list=$(dirname "$0")/packages.txt
missing=
while read -r name when _; do
	case $name in '' | '#'*) continue ;; esac
	case " needed optional $* " in *" $when "*) ;; *) continue ;; esac
	case $(dpkg-query -W -f '${Status}' "$name" 2>/dev/null || true) in
	*' installed') ;;
	*) missing="$missing $name" ;;
	esac
done <"$list"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif sudo -n true 2>/dev/null; then
	as_root=sudo
else
	echo "deps: packages are missing; install them with:" >&2
	echo "  sudo apt-get install --no-install-recommends -y$missing" >&2
	exit 2
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "deps: installing$missing"
# shellcheck disable=SC2086 # a list of words
if ! { $as_root apt-get update && $as_root env DEBIAN_FRONTEND=noninteractive \
	apt-get install --no-install-recommends -y $missing; } >"$log" 2>&1; then
	tail -n 15 "$log" >&2
	echo "deps: apt-get failed; these packages are needed:$missing" >&2
	exit 2
fi
