#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# build.sh: res_pjsip_session.so with the recovery of dialogs, for the Asterisk that e2e/peers.sh installed.
#
#   build.sh [--asan] [--out DIR]
#       Builds the one module against the packaged Asterisk, not Asterisk itself. DIR becomes a module directory for astmoddir: a
#       link to each installed module, and the built one as a file. The links are those of the chroot, so DIR is used from inside
#       of it (peers.sh run --bind). The last line printed is its path on this machine; without --out it is in the cache.
#       --asan: instrumented by AddressSanitizer; Asterisk is then started with LD_PRELOAD=libasan.so.8.
#   build.sh --check [SOURCE]
#       Says for each patch whether it applies to the packaged source (or to the Asterisk source tree in SOURCE), and builds nothing.
#       Where SOURCE is a git repository of Asterisk, bare or not: for each release of the series that there is a patch for.
#
# What it needs it installs in the chroot: a compiler and dpkg-dev. Sources, the configured pjproject and results are kept beside the
# chroot, by version and by the patch's content: a second run takes no time. About 30 s the first time, 5 s for a new patch.
set -eu

needs="gcc g++ libc6-dev patch make dpkg-dev bzip2 xz-utils"

die() {
	echo "build.sh: $*" >&2
	exit 1
}

say() {
	echo "asterisk-patch: $*" >&2
}

# host: copies what the inner half needs into the cache and starts it in the chroot, where the cache is /mnt.
host() {
	here=$(cd "$(dirname "$0")" && pwd)
	peers=$here/../e2e/peers.sh
	base=${RTCEDGE_PEERS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/rtcedge}
	out=
	asan=no
	action=build
	while [ $# -gt 0 ]; do
		case $1 in
		--out)
			out=${2:?--out needs a folder}
			shift 2
			;;
		--asan)
			asan=yes
			shift
			;;
		--check)
			action=check
			shift
			if [ $# -gt 0 ]; then
				check_tree "$here" "$1" && exit 0
				exit 1
			fi
			;;
		*)
			sed -n '3,${ /^#/!q; s/^# \{0,1\}//; p; }' "$0"
			exit 2
			;;
		esac
	done
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || die "the chroot needs root, and there is no sudo: run it as root"
		[ "$asan" = no ] || set -- --asan
		[ "$action" = build ] || set -- --check
		[ -z "$out" ] || set -- "$@" --out "$out"
		exec sudo -- env "RTCEDGE_PEERS=$base" sh "$0" "$@"
	fi
	[ -d "$base/forky/proc" ] || die "there is no chroot in $base: run e2e/peers.sh install"
	cache=$base/asterisk-patch
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock -w 900 9 || die "another build holds $cache/lock for 15 minutes"
	rm -rf "$cache/in"
	mkdir "$cache/in"
	cp "$here"/*.patch "$here/build.sh" "$cache/in/"
	rm -f "$cache/built"
	# The lock is not for the children: a daemon of apt could keep it.
	sh "$peers" run --bind "$cache" sh /mnt/in/build.sh inside "$action" "$asan" 9>&- || exit 1
	[ "$action" = build ] || exit 0
	dir=$cache/$(cat "$cache/built")
	if [ -n "$out" ]; then
		rm -rf "$out"
		mkdir -p "$out"
		cp -a "$dir/." "$out/"
		dir=$(cd "$out" && pwd)
	fi
	echo "$dir"
}

# check_tree says for each patch whether it applies to a source tree; success is that one does.
check_tree() {
	if [ ! -e "$2/res/res_pjsip_session.c" ] && git -C "$2" rev-parse --git-dir >/dev/null 2>&1; then
		check_repository "$1" "$2"
		return
	fi
	[ -e "$2/res/res_pjsip_session.c" ] || die "$2 is no source tree of Asterisk: there is no res/res_pjsip_session.c"
	any=1
	for p in "$1"/*.patch; do
		if applies "$p" "$2" >/dev/null; then
			say "$(basename "$p") applies"
			any=0
		else
			say "$(basename "$p") does not apply"
		fi
	done
	return $any
}

# check_repository says for each release whether its series' patch applies; success is that one of them does.
check_repository() {
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	mkdir "$tree/res"
	none=1
	for p in "$1"/*.patch; do
		series=$(basename "$p" .patch)
		yes=
		no=
		for tag in $(git -C "$2" tag -l "$series.*" | grep -E '^[0-9]+\.[0-9]+\.[0-9]+$' | sort -V); do
			git -C "$2" show "$tag:res/res_pjsip_session.c" >"$tree/res/res_pjsip_session.c" || return 1
			if applies "$p" "$tree" >/dev/null; then yes="$yes $tag"; else no="$no $tag"; fi
		done
		say "$series.patch applies to${yes:- none}; not to${no:- none}"
		[ -z "$yes" ] || none=0
	done
	return $none
}

# applies: offsets are harmless, fuzz is not, for a hunk may then land in another function.
applies() {
	patch -p1 -F0 --dry-run -d "$2" <"$1"
}

# ---- inside the chroot

install_needs() {
	missing=
	for p in $needs; do
		dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	say "installing$missing"
	apt-get install -y -q --no-install-recommends $missing </dev/null >/mnt/apt.log 2>&1 ||
		{ apt-get update -q -o Acquire::Check-Valid-Until=false >>/mnt/apt.log 2>&1 &&
			apt-get install -y -q --no-install-recommends $missing </dev/null >>/mnt/apt.log 2>&1; } ||
		{ tail -n 20 /mnt/apt.log >&2; die "apt-get install$missing: see above"; }
	apt-get clean
}

# sources: the package's source and its headers, in exactly the installed version.
sources() {
	[ -e "$work/sources.done" ] && return 0
	say "fetching the source of asterisk $version"
	rm -rf "$work"
	mkdir -p "$work/lists/partial"
	cd "$work"
	# Source lists of our own: those of the chroot stay as they are.
	apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u >sources.list
	[ -s sources.list ] || die "apt in the chroot has no archive"
	set -- -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" -o APT::Sandbox::User=root
	apt-get "$@" -o Acquire::Check-Valid-Until=false update >apt.log 2>&1 || { tail -n 20 apt.log >&2; die "apt-get update: see above"; }
	apt-get "$@" source --download-only "asterisk=$version" >>apt.log 2>&1 || {
		tail -n 5 apt.log >&2
		die "the archive no longer has the source of the installed asterisk $version. Install the newer one: e2e/peers.sh remove, then install"
	}
	apt-get -q -o APT::Sandbox::User=root download "asterisk-dev=$version" >>apt.log 2>&1 ||
		{ tail -n 5 apt.log >&2; die "the archive has no asterisk-dev $version: see above"; }
	dpkg-source -x ./*.dsc src >>apt.log 2>&1 || { tail -n 20 apt.log >&2; die "dpkg-source: see above"; }
	# Unpacked only: to install it would take debhelper and all that it needs.
	dpkg -x asterisk-dev_*.deb dev
	rm -rf lists ./*.xz ./*.deb
	cp src/res/res_pjsip_session.c pristine.c
	touch sources.done
}

# pjproject: only its headers are needed. Its configure writes five of them; nothing of it is compiled.
pjproject() {
	[ -e "$work/pjproject.done" ] && return 0
	say "configuring pjproject for its headers"
	cd "$work/src"
	[ -x Xpjproject/aconfigure ] || die "asterisk $version has no bundled pjproject in Xpjproject: the packaging has changed"
	third=$work/src/third-party/pjproject
	cd Xpjproject
	for p in "$third"/patches/*.patch; do
		patch -p1 -N -s <"$p" >>"$work/pjproject.log" 2>&1 || say "pjproject: $(basename "$p") is in the tree already, or does not apply"
	done
	cp "$third/patches/config_site.h" "$third/patches/asterisk_malloc_debug.h" pjlib/include/pj/
	# The options of third-party/pjproject/Makefile.rules, which are those of the package's build.
	options=$(sed -n 's/\\$//; /^PJPROJECT_CONFIG_OPTS =/,/^$/p' "$third/Makefile.rules" | grep -o -- '--[a-z0-9/=-]*' | tr '\n' ' ')
	case $options in
	*--disable-libsrtp*) ;;
	*) die "third-party/pjproject/Makefile.rules has another form: no configure options found in it" ;;
	esac
	./aconfigure $options --disable-resample --disable-g711-codec --enable-epoll >>"$work/pjproject.log" 2>&1 ||
		{ tail -n 20 "$work/pjproject.log" >&2; die "pjproject's configure: see above"; }
	touch "$work/pjproject.done"
}

compile() {
	result=modules-${plain%%+*}-$key
	if [ ! -e "/mnt/$result/res_pjsip_session.so" ]; then
		cd "$work/src"
		cp "$work/pristine.c" res/res_pjsip_session.c
		applies "$patch" . >"$work/patch.log" 2>&1 || {
			cat "$work/patch.log" >&2
			die "$(basename "$patch") no longer applies to asterisk $version: see above; asterisk-patch/README.md says what each hunk does"
		}
		patch -p1 -F0 -s <"$patch"
		say "compiling res_pjsip_session.so for asterisk $version"
		flags="-O2 -g"
		[ "$asan" = no ] || flags="-O1 -g -fsanitize=address -fno-omit-frame-pointer"
		includes="-I$work/dev/usr/include -Ires"
		for p in pjlib pjlib-util pjnath pjmedia pjsip; do includes="$includes -isystem Xpjproject/$p/include"; done
		sed 's/LINKER_SYMBOL_PREFIX//' res/res_pjsip_session.exports.in >"$work/exports"
		endian=-DPJ_IS_LITTLE_ENDIAN=1\ -DPJ_IS_BIG_ENDIAN=0
		[ "$(dpkg-architecture -qDEB_HOST_ARCH_ENDIAN)" = little ] || endian=-DPJ_IS_LITTLE_ENDIAN=0\ -DPJ_IS_BIG_ENDIAN=1
		gcc -shared -fPIC -pthread -fsigned-char -std=gnu17 $flags -Wall -Wformat=2 -Wno-format-nonliteral -Werror=implicit-function-declaration \
			-fstack-protector-strong -D_GNU_SOURCE -DAST_MODULE=\"res_pjsip_session\" \
			-DAST_MODULE_SELF_SYM=__internal_res_pjsip_session_self -DPJ_AUTOCONF=1 $endian $includes \
			-Wl,--version-script="$work/exports" -Wl,-z,relro,-z,now -o "$work/module.so" \
			res/res_pjsip_session.c res/res_pjsip_session/*.c || die "the patched module does not compile against asterisk $version: see above"
		[ "$asan" = yes ] || strip "$work/module.so"
		check_module
		rm -rf "/mnt/$result.partial"
		mkdir "/mnt/$result.partial"
		ln -s "$installed"/* "/mnt/$result.partial/"
		rm "/mnt/$result.partial/res_pjsip_session.so"
		cp "$work/module.so" "/mnt/$result.partial/res_pjsip_session.so"
		mv "/mnt/$result.partial" "/mnt/$result"
	fi
	echo "$result" >/mnt/built
}

# check_module compares with the module of the package what the loader and the other modules see of it.
check_module() {
	sum=$(sed -n 's/^#define AST_BUILDOPT_SUM "\(.*\)"/\1/p' "$work/dev/usr/include/asterisk/buildopts.h")
	grep -q "$sum" "$installed/res_pjsip_session.so" || die "the installed module was built with other options than asterisk-dev $version says"
	exported() { nm -D --defined-only "$1" | awk '{ print $3 }' | sort; }
	exported "$installed/res_pjsip_session.so" >"$work/exported.package"
	exported "$work/module.so" | grep -v '__asan\|__odr' >"$work/exported.ours"
	diff "$work/exported.package" "$work/exported.ours" >&2 || die "the built module does not export what the package's does: see above"
}

inside() {
	export DEBIAN_FRONTEND=noninteractive LC_ALL=C
	action=$1
	asan=$2
	version=$(dpkg-query -W -f '${Version}' asterisk 2>/dev/null) || die "asterisk is not installed in the chroot: run e2e/peers.sh install"
	plain=${version#*:}
	series=${plain%%.*}
	work=/mnt/source-${plain%%+*}
	installed=$(ls -d /usr/lib/*/asterisk/modules)
	patch=/mnt/in/$series.patch
	say "the packaged asterisk is $version"
	install_needs
	sources
	if [ "$action" = check ]; then
		cp "$work/pristine.c" "$work/src/res/res_pjsip_session.c"
		check_tree /mnt/in "$work/src"
		return
	fi
	[ -e "$patch" ] || die "there is no patch for Asterisk $series (the package is $version), only: $(cd /mnt/in && echo *.patch)"
	key=$( (echo "$version"; cat "$patch" /mnt/in/build.sh) | sha256sum | cut -c1-12)
	[ "$asan" = no ] || key=$key-asan
	pjproject
	compile
}

if [ "${1:-}" = inside ]; then
	shift
	inside "$@"
else
	host "$@"
fi
