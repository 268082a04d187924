#!/bin/sh
# farms.sh: calls and conferences on real Asterisk farms, the figures of bench/FARMS.md: about three minutes, as root, after `make build` and
# `sh e2e/peers.sh install`. It runs in a network namespace of its own. Arguments are those of bench/farmload (-h lists them).
#
#   sh bench/farms.sh | tee bench/results/farms-$(date +%F).txt
set -eu
cd "$(dirname "$0")/.."
program=$(mktemp)
trap 'rm -f "$program"' EXIT
go build -tags nolibopusfile -o "$program" ./bench/farmload
echo "# command: sh bench/farms.sh $*"
echo "# processor: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1); kernel $(uname -r)"
echo "# rtcedge: $(git describe --tags --always --dirty 2>/dev/null || echo unknown), $(go env GOVERSION)"
unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$program" "$@"
