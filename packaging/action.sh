#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# The main step of action.yml, which sets the variables: run the container, write the step summary, and end with the
# exit code of `vfio-harness run` or `kvm-test`.
set -euo pipefail

results=$GITHUB_WORKSPACE/results
container=(docker run --rm --init --user "$(id -u):$(id -g)" --env HOME=/tmp
	--env VFIO_HARNESS_RESULTS="$results" --env CCACHE_MAXSIZE=2G
	--volume "$CACHE:/cache" --volume "$GITHUB_WORKSPACE:$GITHUB_WORKSPACE" --workdir "$GITHUB_WORKSPACE")
[ ! -e /dev/kvm ] || container+=(--device /dev/kvm)

options=(--machine "$MACHINE" --flavour "$FLAVOUR")
[ "$COMMAND" = kvm-test ] || options+=(--suite "$SUITE")
[ -z "$KERNEL" ] || options+=(--kernel "$KERNEL")
[ -z "$SERIES" ] || options+=(--series "$SERIES")
if [ -n "$ARGUMENTS" ]; then
	words=$(xargs -n1 printf '%s\n' <<<"$ARGUMENTS") # reads words as a shell does, but expands and runs nothing
	mapfile -t more <<<"$words"
	options+=("${more[@]}")
fi

mkdir -p "$CACHE" "$results"
code=0
"${container[@]}" "$IMAGE" "$COMMAND" "${options[@]}" || code=$?

{
	echo "exit-code=$code"
	[ ! -e "$results/latest" ] || echo "results=$(readlink -f "$results/latest")"
} >>"$GITHUB_OUTPUT"

if [ -e "$results/latest/report.json" ]; then
	"${container[@]}" "$IMAGE" summary "$results/latest" >>"$GITHUB_STEP_SUMMARY"
else
	echo "vfio-harness ended with exit code $code before its first case: see the log." >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"
