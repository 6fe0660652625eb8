#!/bin/sh
# Installs the programs of the corpus on Debian, if any is missing, and starts no service. Idempotent.
set -eu

missing=""
need() { # need PACKAGE COMMAND…: the package, unless the command succeeds
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

need make make --version
need gcc gcc --version
need ninja-build ninja --version
need parallel sh -c 'parallel --version | grep -q GNU'
need stress-ng stress-ng --version
need findutils find --version
need util-linux setpriv --version
need apache2 test -x /usr/sbin/apache2
need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
need chromium chromium --version
need npm npm --version

[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null; then
	echo "these Debian packages, or your distribution's like them, are missing:$missing" >&2
	exit 4
fi
if [ "$(id -u)" != 0 ]; then
	echo "missing:$missing; type \`sudo apt-get install$missing\`" >&2
	exit 3
fi

# Neither a web server nor a database may come up because the corpus wants their programs.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d
ours=""
trap 'rm -f $ours' EXIT
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
	ours="$policy"
fi
if [ ! -d /etc/postgresql-common ]; then
	mkdir -p $cluster
	echo "create_main_cluster = false" >$cluster/pidwarden-corpus.conf
	ours="$ours $cluster/pidwarden-corpus.conf"
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of names on purpose
apt-get install -y -qq --no-install-recommends $missing >/dev/null
