#!/bin/sh
# media.sh: rtcedge's media role and rtpengine 26 side by side, with the same calls in the same minutes. See bench/MEDIA.md.
#
#   sh bench/compare/media.sh [SCENARIO...]     all scenarios, or some of: relay srtp pcma g722 opus
#
# The proxy runs on core PROXY_CORE (0) with one worker, the load generator on core LOAD_CORE (1), in a network namespace of their
# own: the ports are free, and the loopback carries nothing else. The sides alternate, REPEAT (3) times, each run with a fresh
# process. Raw lines go to bench/results/media-DATE.txt (OUT), the table of medians to standard output. WARM (1s) and SPAN (4s)
# are the talk before the window and in it; packets leave together once in TICK (1ms). EDGE and RTPENGINE set to "no" leave a side out. RTCEDGE_BIN is a binary to use
# instead of building one. PROFILE set to a folder keeps a CPU profile of rtcedge per scenario. Root is needed, for the
# namespace and the chroot of e2e/peers.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${PROXY_CORE:=0}" "${LOAD_CORE:=1}" "${REPEAT:=3}" "${WARM:=1s}" "${SPAN:=4s}" "${TICK:=1ms}" "${NICE:=-19}"
: "${EDGE:=yes}" "${RTPENGINE:=yes}" "${PROFILE:=}" "${GO:=go}"

die() {
	echo "media.sh: $*" >&2
	exit 1
}

# 1. In the machine's own namespace: build, note the machine, then start again in a new one.
if [ -z "${MEDIABENCH_WORK:-}" ]; then
	[ "$(id -u)" = 0 ] || die "needs root"
	MEDIABENCH_WORK=$(mktemp -d)
	OUT=${OUT:-$top/bench/results/media-$(date -u +%Y-%m-%d).txt}
	export MEDIABENCH_WORK PROXY_CORE LOAD_CORE REPEAT WARM SPAN TICK NICE EDGE RTPENGINE PROFILE OUT
	mkdir -p "$(dirname "$OUT")"
	trap 'rm -rf "$MEDIABENCH_WORK"' EXIT
	cd "$top"
	if [ -n "${RTCEDGE_BIN:-}" ]; then
		cp "$RTCEDGE_BIN" "$MEDIABENCH_WORK/rtcedge"
	else
		$GO build -tags nolibopusfile -trimpath -o "$MEDIABENCH_WORK/rtcedge" ./cmd/rtcedge
	fi
	$GO build -tags nolibopusfile -trimpath -o "$MEDIABENCH_WORK/rtpload" ./bench/rtpload
	{
		echo "# date: $(date -u '+%Y-%m-%d %H:%M') UTC"
		echo "# command: sh bench/compare/media.sh $*  (REPEAT=$REPEAT WARM=$WARM SPAN=$SPAN TICK=$TICK NICE=$NICE)"
		echo "# processor: $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) cores; $(lscpu | sed -n 's/^Hypervisor vendor: *//p')"
		echo "# kernel: $(uname -sr)"
		echo "# rtcedge: ${RTCEDGE_BIN:-$(git describe --always --dirty)}, $($GO version | cut -d' ' -f3), GOMAXPROCS=${GOMAXPROCS:-}"
		echo "# rtpengine: $(sh "$top/e2e/peers.sh" run rtpengine --version 2>&1 | sed -n 's/^Version: //p')"
		echo "# load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
	} >"$OUT"
	setsid unshare --net sh "$0" "$@" &
	inner=$!
	trap 'kill "$inner" 2>/dev/null; wait "$inner" 2>/dev/null; rm -rf "$MEDIABENCH_WORK"' EXIT
	trap 'exit 130' INT TERM
	wait "$inner"
	exit 0
fi

ip link set lo up
# A session is one group to the scheduler (sched(7), autogroup): without this the nice values would count among ourselves only, and
# whatever else runs on the machine would get half of each core.
echo "$NICE" >/proc/self/autogroup 2>/dev/null || true
[ $# -gt 0 ] || set -- relay srtp pcma g722 opus
pid=
trap 'stop' EXIT
trap 'exit 130' INT TERM

stop() {
	[ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
	pid=
}

# 2. One proxy at a time, with one worker for media each.
start() {
	case $1 in
	rtcedge)
		taskset -c "$PROXY_CORE" "$MEDIABENCH_WORK/rtcedge" media --listen-ng 127.0.0.1:2223 --interface default/127.0.0.1 \
			--num-threads 1 --port-min 30000 --port-max 39999 --admin 127.0.0.1:8081 --delete-delay 0s --drain-notice 0s \
			--drain-limit 0s --log-level warn >"$MEDIABENCH_WORK/rtcedge.log" 2>&1 &
		;;
	rtpengine)
		taskset -c "$PROXY_CORE" sh "$top/e2e/peers.sh" run rtpengine --foreground --log-stderr --log-level=4 --config-file=none \
			--table=-1 --num-threads=1 --interface=127.0.0.1 --listen-ng=127.0.0.1:2223 --port-min=30000 --port-max=39999 \
			--delete-delay=0 --pidfile=/tmp/rtpengine.pid >"$MEDIABENCH_WORK/rtpengine.log" 2>&1 &
		;;
	esac
	pid=$!
	sleep 1 # both load in less; a port that is not open yet shows as a failed run
}

# 3. One run. $1 side, $2 repetition, $3 scenario.
run() {
	start "$1"
	profiler=
	if [ "$1" = rtcedge ] && [ -n "$PROFILE" ]; then
		curl -s -o "$PROFILE/$3.pprof" "http://127.0.0.1:8081/debug/pprof/profile?seconds=4" &
		profiler=$!
	fi
	if taskset -c "$LOAD_CORE" "$MEDIABENCH_WORK/rtpload" --pid "$pid" --core "$PROXY_CORE" --scenario "$3" --tick "$TICK" \
		--warm-up "$WARM" --time "$SPAN" >"$MEDIABENCH_WORK/last" 2>"$MEDIABENCH_WORK/why"; then
		sed "s/^/$1 $2 /" "$MEDIABENCH_WORK/last" | tee -a "$OUT" >&2
	else
		echo "# $1 $2 $3 failed: $(cat "$MEDIABENCH_WORK/why")" | tee -a "$OUT" >&2
	fi
	[ -z "$profiler" ] || wait "$profiler" || true
	stop
}

for scenario in "$@"; do
	rep=1
	while [ "$rep" -le "$REPEAT" ]; do
		[ "$RTPENGINE" = no ] || run rtpengine "$rep" "$scenario"
		[ "$EDGE" = no ] || run rtcedge "$rep" "$scenario"
		rep=$((rep + 1))
	done
done
echo "# load average after: $(cut -d' ' -f1-3 /proc/loadavg)" >>"$OUT"

# 4. Medians and ratios.
"$MEDIABENCH_WORK/rtpload" --table <"$OUT" | tee "$OUT.md"
