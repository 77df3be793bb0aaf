# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Sourced by the scripts beside it: where things lie, and how to speak.

# shellcheck disable=SC2034 # used by those who source this
{
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
vm=$root/tests/vm
build=$root/build
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kosdma
}

# A make that runs us has its own jobs; ours count theirs themselves.
unset MAKEFLAGS MFLAGS

say() { printf '%s\n' "$*" >&2; }

die() {
	say "${0##*/}: $*"
	exit "${die_status:-1}"
}
