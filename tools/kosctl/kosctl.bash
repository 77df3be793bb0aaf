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
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cword=$COMP_CWORD words=

	# BDFs hold colons, at which words are broken unless that is switched off for them.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur prev cword
	fi
	case $prev in
	--bdf) words=$(_kosctl_devices) ;;
	--pid) words=$(cd /proc && echo [0-9]*) ;;
	--user) words=$(cut -d: -f1 /etc/passwd) ;;
	--group) words=$(cut -d: -f1 /etc/group) ;;
	-w | --wait) return ;;
	*)
		case $cword:${COMP_WORDS[1]} in
		1:*) words='list tree monitor stat why who release grants grant revoke-grant bind unbind --help' ;;
		2:list) words='devices buffers mappings accesses domains regions handles quarantine' ;;
		*:list)
			words='--bdf --json'
			[ "${COMP_WORDS[2]}" = devices ] || words+=' --pid'
			;;
		*:monitor) words='--since-boot --json' ;;
		*:stat) words='--wait --json' ;;
		*:why | *:who) words='--json' ;;
		*:release) words='--all' ;;
		*:grants) words='--bdf --json' ;;
		*:grant) words='--user --group' ;;
		*:revoke-grant) words='--user --group --all' ;;
		*:bind | *:unbind) words='--force --dry-run' ;;
		esac
		case $cword:${COMP_WORDS[1]} in
		2:why | 2:who | 2:release | 2:grant | 2:revoke-grant | 2:bind | 2:unbind) words+=" $(_kosctl_devices)" ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}

complete -F _kosctl kosctl
