#!/bin/sh
# peers.sh: the real programs that the peer tests talk to.
#
#   peers.sh install            Debian's SIPp, baresip, sox, Chromium, PostgreSQL and NATS, and a chroot of Debian's testing release (forky) with
#                               Asterisk 22, Kamailio 6, rtpengine 26 and SIPp 3.8. May be run again at any time: what
#                               is done is kept, what was interrupted is taken up.
#   peers.sh run [--bind DIR] COMMAND [ARG...]
#                               COMMAND inside the chroot, in a mount namespace of its own: nothing stays mounted when
#                               it ends, however it ends. DIR of the host is /mnt in there. The shell is replaced by
#                               COMMAND, so that the process id of this script becomes that of COMMAND.
#   peers.sh asterisk start NAME DIR     an Asterisk with the folder that `rtcedge asterisk-config --out DIR --dir /mnt` wrote, in the
#                               background; returns when it has fully booted, and prints its process id and version
#   peers.sh asterisk stop NAME | kill NAME | status [NAME]
#                               SIGTERM and wait; SIGKILL; what runs
#   peers.sh status             what is installed, in which version, and what is mounted
#   peers.sh mount | umount     the chroot's /proc, /dev and /sys in the caller's own namespace, for work by hand
#   peers.sh remove             unmounts, then deletes the chroot
#
# The chroot lies in ${RTCEDGE_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/rtcedge}/forky and takes about 1 GB. The mirror is the one that this
# machine's apt uses. Root is needed; elsewhere the script starts itself again with sudo.
set -eu

suite=forky
host_packages="sip-tester baresip-core sox sngrep iproute2 nftables procps curl nginx-core libnginx-mod-stream debootstrap chromium postgresql nats-server"
peer_packages="asterisk asterisk-modules kamailio kamailio-extra-modules kamailio-tls-modules
kamailio-websocket-modules kamailio-lwsc-modules rtpengine-daemon sip-tester baresip-core"

base=${RTCEDGE_PEERS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/rtcedge}
root=$base/$suite
partial=$root.partial
stamp=$base/$suite.packages
lock=$base/$suite.lock

die() {
	echo "peers.sh: $*" >&2
	exit 1
}

say() {
	echo "peers: $*"
}

# become_root replaces this process by the same command under sudo. The folder is passed on, because sudo changes HOME.
become_root() {
	[ "$(id -u)" = 0 ] && return 0
	command -v sudo >/dev/null || die "$1 needs root, and there is no sudo: run it as root"
	exec sudo -- env "RTCEDGE_PEERS=$base" sh "$0" "$@"
}

# one_at_a_time holds a lock until this process ends, so that two installations never meet in one chroot.
one_at_a_time() {
	mkdir -p "$base"
	exec 9>"$lock"
	if ! flock -n 9; then
		say "another $1 is at work, waiting for it"
		flock -w 1800 9 || die "$1: the lock $lock is held for 30 minutes"
	fi
}

host_missing() {
	for p in $host_packages; do
		dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || echo "$p"
	done
	# Debian's, where no other Node.js is there: it brings the libraries of the web phones.
	command -v npm >/dev/null || echo npm
}

install_host() {
	missing=$(host_missing)
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || die "apt-get is not here: install $(echo $missing) by hand"
	say "installing $(echo $missing)"
	export DEBIAN_FRONTEND=noninteractive
	# Package lists that are there are tried first: a fetch of them takes longer than the packages.
	apt-get install -y -q --no-install-recommends $missing </dev/null >"$base/apt.log" 2>&1 ||
		{ apt-get update -q >>"$base/apt.log" 2>&1 &&
			apt-get install -y -q --no-install-recommends $missing </dev/null >>"$base/apt.log" 2>&1; } ||
		{ tail -n 20 "$base/apt.log" >&2; die "apt-get install $(echo $missing): see above"; }
}

# mirror prints the archive that this machine's apt takes its packages from.
mirror() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
		awk '$2 !~ /security|updates|backports/ { print $1; exit }'
}

mounts() {
	awk -v r="$root/" 'index($5, r) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

mount_root() {
	[ -d "$root/proc" ] || die "there is no chroot at $root: run '$0 install'"
	mount -t proc proc "$root/proc"
	mount --rbind /dev "$root/dev"
	mount --make-rslave "$root/dev"
	mount --rbind /sys "$root/sys"
	mount --make-rslave "$root/sys"
}

umount_root() {
	for m in $(mounts); do
		umount "$m" 2>/dev/null || umount -l "$m" || die "umount $m"
	done
}

# in_chroot runs a command of the installation. The namespace takes the mounts with it when the command ends or is killed.
in_chroot() {
	sh "$0" run "$@"
}

bootstrap() {
	[ -d "$root" ] && return 0
	uri=$(mirror)
	[ -n "$uri" ] || die "apt has no archive with package lists here: run apt-get update first"
	say "bootstrapping $suite"
	rm -rf --one-file-system "$partial"
	script=
	[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=sid
	# A failed debootstrap cannot be continued, so it works under another name until it is complete.
	debootstrap --variant=minbase "$suite" "$partial" "$uri" $script >"$base/debootstrap.log" 2>&1 ||
		{ tail -n 20 "$base/debootstrap.log" >&2; die "debootstrap $suite: see above, all of it in $base/debootstrap.log"; }
	# No daemon of a package may start inside the chroot.
	printf '#!/bin/sh\nexit 101\n' >"$partial/usr/sbin/policy-rc.d"
	chmod 755 "$partial/usr/sbin/policy-rc.d"
	mv "$partial" "$root"
}

install_peers() {
	# The stamp is written last, so an interrupted run is taken up where it stopped.
	if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$peer_packages" ]; then
		return 0
	fi
	say "installing the peers in the chroot"
	# A mirror's copy of the testing release can be older than its Valid-Until.
	in_chroot sh -c '
		export DEBIAN_FRONTEND=noninteractive LC_ALL=C
		dpkg --configure -a &&
		apt-get -q -o Acquire::Check-Valid-Until=false update &&
		apt-get -q -y -f install &&
		apt-get -q -y install --no-install-recommends "$@" && apt-get clean' sh $peer_packages </dev/null >"$base/peers.log" 2>&1 ||
		{ tail -n 20 "$base/peers.log" >&2; die "installing the peers: see above, all of it in $base/peers.log"; }
	printf '%s\n' "$peer_packages" >"$stamp"
}

# version prints what a dpkg database holds of a package.
version() {
	printf '  %-26s %s\n' "$1" "$(dpkg-query --admindir="$2" -W -f '${Version}' "$1" 2>/dev/null || echo missing)"
}

status() {
	echo "this machine:"
	for p in $host_packages; do version "$p" /var/lib/dpkg; done
	if [ -e "$stamp" ]; then
		echo "chroot $root:"
		for p in $peer_packages; do version "$p" "$root/var/lib/dpkg"; done
	else
		echo "chroot $root: not installed"
	fi
	m=$(mounts)
	echo "mounted: ${m:-nothing}"
	[ -e "$stamp" ] && [ -z "$(host_missing)" ]
}

run() {
	bind=
	if [ "${1:-}" = --bind ]; then
		bind=${2:?--bind needs a folder}
		shift 2
	fi
	[ $# -gt 0 ] || die "run: which command?"
	[ -d "$root/proc" ] || die "there is no chroot at $root: run '$0 install'"
	# The inner shell gets the folders as arguments, so that no name in them is ever read as code.
	exec unshare --mount --propagation private -- sh -euc '
		root=$1 bind=$2
		shift 2
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount --rbind /sys "$root/sys"
		mount -t tmpfs tmpfs "$root/tmp"
		[ -z "$bind" ] || mount --bind "$bind" "$root/mnt"
		exec chroot "$root" "$@"' sh "$root" "$bind" "$@"
}

# Each Asterisk that was started has a file with its process id and folder.
nodes=$base/asterisk

node_pid() {
	[ -e "$nodes/$1" ] || return 1
	read -r pid dir <"$nodes/$1"
	# Process ids are used again: only an Asterisk with this folder's socket counts.
	[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = asterisk ]
}

node_cli() {
	in_chroot --bind "$1" asterisk -C /mnt/asterisk.conf -rx "$2" 2>/dev/null
}

node_start() {
	name=$1 dir=$2
	case $name in *[!A-Za-z0-9_.+-]* | '') die "asterisk start: name '$name' (allowed: letters, digits, and _ . + -)" ;; esac
	[ -e "$dir/asterisk.conf" ] || die "asterisk start: $dir has no asterisk.conf: rtcedge asterisk-config --out $dir --dir /mnt writes it"
	grep -q '^astetcdir => /mnt$' "$dir/asterisk.conf" || die "asterisk start: $dir/asterisk.conf is not for the chroot: write it with --dir /mnt"
	! node_pid "$name" || die "asterisk start: $name runs already, process $pid"
	dir=$(cd "$dir" && pwd)
	mkdir -p "$nodes" "$dir/log"
	setsid sh "$0" run --bind "$dir" asterisk -f -q -C /mnt/asterisk.conf </dev/null >"$dir/log/console" 2>&1 9>&- &
	pid=$!
	echo "$pid $dir" >"$nodes/$name"
	n=0
	until node_cli "$dir" "core waitfullybooted" | grep -q "fully booted"; do
		n=$((n + 1))
		kill -0 "$pid" 2>/dev/null || { cat "$dir/log/console" >&2; die "asterisk start: $name ended, see above"; }
		[ $n -lt 300 ] || die "asterisk start: $name is not ready after 30 s; its log is $dir/log/messages"
		sleep 0.1
	done
	say "$name: process $pid, $(node_cli "$dir" "core show version" | sed -n 's/ built.*//p')"
}

node_stop() {
	if ! node_pid "$1"; then
		rm -f "$nodes/$1"
		say "$1: does not run"
		return 0
	fi
	kill "-$2" "$pid"
	n=0
	while node_pid "$1"; do
		n=$((n + 1))
		[ $n -lt 100 ] || { kill -KILL "$pid"; die "asterisk $3: $1 did not end in 10 s, killed"; }
		sleep 0.1
	done
	rm -f "$nodes/$1"
	say "$1: ended"
}

node_status() {
	code=0
	for name in ${1:-$(ls "$nodes" 2>/dev/null)}; do
		if node_pid "$name"; then
			say "$name: process $pid, $dir, $(node_cli "$dir" "core show version" | sed -n 's/ built.*//p')"
		else
			say "$name: does not run"
			code=1
		fi
	done
	return $code
}

remove() {
	umount_root
	[ -z "$(mounts)" ] || die "remove: still mounted: $(mounts)"
	rm -rf --one-file-system "$root" "$partial"
	rm -f "$stamp" "$base/debootstrap.log" "$base/peers.log" "$base/apt.log"
	say "removed $root"
}

command=${1:-help}
case $command in
install)
	become_root "$@"
	one_at_a_time "$command"
	install_host
	bootstrap
	install_peers
	status
	;;
run)
	become_root "$@"
	shift
	run "$@"
	;;
asterisk)
	become_root "$@"
	verb=${2:-}
	case $verb in
	start) node_start "${3:?asterisk start: NAME is missing}" "${4:?asterisk start: DIR is missing}" ;;
	stop) node_stop "${3:?asterisk stop: NAME is missing}" TERM stop ;;
	kill) node_stop "${3:?asterisk kill: NAME is missing}" KILL kill ;;
	status) node_status "${3:-}" ;;
	*) die "asterisk: '$verb' (allowed: start NAME DIR, stop NAME, kill NAME, status [NAME])" ;;
	esac
	;;
mount)
	become_root "$@"
	one_at_a_time "$command"
	[ -z "$(mounts)" ] || die "already mounted: $(mounts)"
	trap umount_root EXIT
	mount_root
	trap - EXIT
	mounts
	;;
umount)
	become_root "$@"
	one_at_a_time "$command"
	umount_root
	;;
remove)
	become_root "$@"
	one_at_a_time "$command"
	remove
	;;
status)
	status
	;;
*)
	sed -n 's/^# \{0,1\}//; 2,24p' "$0"
	[ "$command" = help ] || exit 2
	;;
esac
