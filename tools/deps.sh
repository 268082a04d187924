#!/bin/sh
# Installs what the build needs from the system: a C compiler, pkg-config and libopus' headers, for Opus by libopus.
# A build with CGO_ENABLED=0 needs none of it.
set -eu

[ "${CGO_ENABLED:-1}" = 0 ] && exit 0
missing=""
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
command -v pkg-config >/dev/null 2>&1 || missing="$missing pkg-config"
pkg-config --exists opus 2>/dev/null || missing="$missing libopus-dev"
[ -z "$missing" ] && exit 0

advice="install${missing} by hand, or build without Opus: CGO_ENABLED=0 make build"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "rtcedge needs${missing}, and this system has no apt-get: $advice" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "rtcedge needs${missing}; you are not root and there is no sudo: $advice" >&2
        exit 1
    fi
    sudo=sudo
fi
echo "installing${missing}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # the words of $missing are packages
if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    echo "apt-get could not install${missing}: $advice" >&2
    exit 1
fi
