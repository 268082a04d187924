#!/bin/sh
# watch.sh nftables NODE...   asks each node's admin port five times a second and keeps the chains of nftables.conf
# watch.sh nginx NODE...      the same for nginx.conf: writes $NODES_FILE and runs $RELOAD
#
# A node that is ready (200) gets requests. One that says it is not ready (503, it drains) gets no more of them, but still the
# farm's answers to it. One that is dead (000: it refuses, or is silent three times) is replaced by a ready node, also for the farm's
# answers. One that was dead and is back (new) gets the farm's answers at once and requests after 10 rounds: its first
# probe of the farm was answered to the node that stood in for it, and until the next one it takes the farm for
# dead. With no node ready new ones do; with none of them nothing is changed.
#
# ADMIN_PORT (8080), NODES_FILE (/etc/nginx/sip-nodes.conf) and RELOAD ("nginx -s reload") are variables.
set -eu

kind=${1:-}
case $kind in nftables | nginx) shift ;; *) kind= ;; esac
if [ -z "$kind" ] || [ $# = 0 ]; then
	sed -n '2,3s/^# //p' "$0" >&2
	exit 2
fi
command -v curl >/dev/null || { echo "watch.sh: curl is not installed" >&2; exit 1; }
file=${NODES_FILE:-/etc/nginx/sip-nodes.conf}

# ask sets now to a line "node state" for each node.
ask() {
	now= i=0
	for n in "$@"; do
		i=$((i + 1))
		eval "rounds=\${rounds_$i:-10} misses=\${misses_$i:-0} last_code=\${code_$i:-000}"
		failed=0
		code=$(curl -s -o /dev/null -m 0.4 -w '%{http_code}' "http://$n:${ADMIN_PORT:-8080}/readyz") || failed=$?
		case $failed in
		0) misses=0 ;;
		28) misses=$((misses + 1)) ;; # time is over: busy, or the host is gone
		*) misses=3 ;;
		esac
		if [ "$misses" -ge 3 ]; then
			code=000 rounds=0
		elif [ "$misses" -gt 0 ]; then
			code=$last_code
		elif [ "$code" = 200 ] && [ "$rounds" -lt 10 ]; then
			code=new rounds=$((rounds + 1))
		fi
		eval "rounds_$i=$rounds misses_$i=$misses code_$i=$code"
		now="$now$n $code
"
	done
	now=${now%?}
}

# stand_in prints the rules for dead nodes, as part of one nft transaction.
stand_in() {
	awk '
		$2 == 200 && !first { first = $1 }
		$2 == "000" { dead[++n] = $1 }
		END {
			print "flush chain ip sip_lb stand_in"
			for (i = 1; i <= n; i++) print "add rule ip sip_lb stand_in ip daddr " dead[i] " ip daddr set " first
		}'
}

pick() {
	awk '
		$2 == 200 { map = map (n ? ", " : "") (n + 0) " : " $1; n++ }
		END {
			print "flush chain ip sip_lb pick"
			print "add rule ip sip_lb pick ip daddr set jhash ip saddr . udp sport mod " n " seed 0x5060 map { " map " }"
		}'
}

apply() {
	nodes=$1
	echo "$nodes" | grep -q ' 200$' || nodes=$(echo "$1" | sed 's/ new$/ 200/')
	echo "$nodes" | grep -q ' 200$' || return 1
	if [ "$kind" = nftables ]; then
		{ echo "$nodes" | pick; echo "$nodes" | stand_in; } | nft -f -
		return
	fi
	echo "$nodes" | stand_in | nft -f - &&
		echo "$nodes" | awk '$2 == 200 { print "server " $1 ":5060;" }' >"$file.new" && mv "$file.new" "$file" && ${RELOAD:-nginx -s reload}
}

applied= said=
while :; do
	ask "$@"
	if [ "$now" != "$applied" ]; then
		if apply "$now"; then applied=$now result=; else result=": NOT APPLIED"; fi
		[ "$now$result" = "$said" ] || echo "$(date +%T)" $now"$result"
		said=$now$result
	fi
	sleep 0.2
done
