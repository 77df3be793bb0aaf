#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Run test programs and report on them in KTAP, as the kernel's kselftest
# runner does. Arguments: the programs; none: every *_test beside this script.
# Exit status: 0 all passed or were skipped, 1 otherwise.
# TEST_TIMEOUT_SCALE: so many times longer may a program, and each test, take.

here=$(dirname "$0")
timeout=$(sed -n 's/^timeout=//p' "$here/settings" 2>/dev/null)
timeout=$((${timeout:-900} * ${TEST_TIMEOUT_SCALE:-1}))
[ $# -gt 0 ] || set -- "$here"/*_test

echo "TAP version 13"
echo "1..$#"
n=0
bad=0
for prog; do
	n=$((n + 1))
	name="selftests: kosdma: $(basename "$prog")"
	echo "# $name"
	begin=$(date +%s)
	# A pipe would hide the status of the program.
	{ timeout -k 10 $timeout "$prog" 2>&1; echo "exit $?"; } | {
		status=1
		while IFS= read -r line; do
			case $line in
			"exit "*) status=${line#exit } ;;
			*) printf '# %s\n' "$line" ;;
			esac
		done
		exit "$status"
	}
	status=$?
	echo "# $name took $(($(date +%s) - begin)) s"
	case $status in
	0) echo "ok $n $name" ;;
	4) echo "ok $n $name # SKIP" ;;
	124 | 137) echo "not ok $n $name # TIMEOUT $timeout seconds"; bad=1 ;;
	*) echo "not ok $n $name # exit=$status"; bad=1 ;;
	esac
done
exit $bad
