# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Completion of kosctl's words, options, devices and processes.

_kosctl_devices() {
	local device

	for device in /sys/bus/pci/devices/*; do
		echo "${device##*/}"
	done
}

_kosctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words

	# BDFs hold colons, at which words are broken unless that is switched off for them.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur prev
	fi
	case $prev in
	--bdf | bind | unbind | grant | revoke-grant | why | who | release) words=$(_kosctl_devices) ;;
	--pid) words=$(cd /proc && echo [0-9]*) ;;
	--user) words=$(cut -d: -f1 /etc/passwd) ;;
	--group) words=$(cut -d: -f1 /etc/group) ;;
	list) words='devices buffers mappings accesses domains regions handles quarantine' ;;
	-w | --wait) return ;;
	kosctl | */kosctl) words='list tree monitor stat why who grants grant revoke-grant bind unbind release --help' ;;
	*)
		case ${COMP_WORDS[1]} in
		list) words='--pid --bdf --json' ;;
		monitor) words='--since-boot --json' ;;
		stat) words='--wait --json' ;;
		why | who) words='--json' ;;
		grants) words='--bdf --json' ;;
		grant) words='--user --group' ;;
		revoke-grant) words='--user --group --all' ;;
		bind | unbind) words='--force --dry-run' ;;
		release) words='--all' ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}

complete -F _kosctl kosctl
