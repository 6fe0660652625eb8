#!/bin/sh
# Installs what building and testing need on Debian, if any of it is missing. Idempotent.
set -eu

missing=""
need() { # need PACKAGE COMMAND…: the package, unless the command succeeds
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

need clang clang --version
need libbpf-dev test -e /usr/include/bpf/bpf_helpers.h
need libbpf1 sh -c 'ldconfig -p | grep -q libbpf.so.1'
need gcc gcc --version
need libc6-dev test -e /usr/include/stdio.h
need linux-libc-dev test -e /usr/include/linux/bpf.h
need python3-venv python3 -c 'import ensurepip, venv'
need util-linux setpriv --version
need bash bash --version
need busybox busybox true
need nftables nft --version
need conntrack conntrack --version
need iproute2 ip -V
need strace strace --version
need git git --version
need curl curl --version
need make make --version
need perl perl -v
wanted=""
# Only the tests in virtual machines need it, and where it cannot be had they are skipped.
qemu-system-x86_64 --version >/dev/null 2>&1 || wanted=" qemu-system-x86"
if [ -z "$missing" ] && [ -n "$wanted" ]; then
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		echo "without$wanted the tests in virtual machines are skipped; type \`sudo apt-get install$wanted\`" >&2
		exit 0
	fi
fi

[ -z "$missing$wanted" ] && exit 0
if ! command -v apt-get >/dev/null; then
	echo "these Debian packages, or your distribution's like them, are missing:$missing" >&2
	exit 4
fi
if [ "$(id -u)" != 0 ]; then
	echo "missing:$missing; type \`sudo apt-get install$missing\`" >&2
	exit 3
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of names on purpose
apt-get install -y -qq --no-install-recommends $missing $wanted >/dev/null
