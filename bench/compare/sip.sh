#!/bin/sh
# sip.sh: rtcedge's sip role and Kamailio side by side, with the same load in the same minutes. See bench/README.md.
#
#   sh bench/compare/sip.sh [POINT...]     all points, or some of: udp udp-max overload register register-max tcp tcp-max ws ws-max
#
# The proxy runs on core PROXY_CORE (0), the load generator on core LOAD_CORE (1), in a network namespace of their own: the ports are
# free, and the loopback carries nothing else. The sides alternate, REPEAT (3) times. Raw lines go to bench/results/sip-DATE.txt
# (OUT), the table of medians to standard output. SPAN (4s) is the time of a run at a fixed rate, STEP (2s) that of one in a
# search. KAMAILIO_MEMORY is its memory manager: fm (the fastest, default here), qm (Kamailio's default) or tlsf. EDGE and KAMAILIO
# set to "no" leave a side out. RTCEDGE_BIN is a binary to use instead of building one. Root is needed, for the namespace and for the
# chroot of e2e/peers.sh.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${PROXY_CORE:=0}" "${LOAD_CORE:=1}" "${REPEAT:=3}" "${SPAN:=4s}" "${STEP:=2s}" "${NICE:=-19}"
: "${KAMAILIO_MEMORY:=fm}" "${EDGE:=yes}" "${KAMAILIO:=yes}" "${GO:=go}"

die() {
	echo "sip.sh: $*" >&2
	exit 1
}

# 1. In the machine's own namespace: build, note the machine, then start again in a new one.
if [ -z "${SIPBENCH_WORK:-}" ]; then
	[ "$(id -u)" = 0 ] || die "needs root"
	SIPBENCH_WORK=$(mktemp -d)
	export KAMAILIO_MEMORY SIPBENCH_WORK PROXY_CORE LOAD_CORE REPEAT SPAN STEP NICE EDGE KAMAILIO
	OUT=${OUT:-$top/bench/results/sip-$(date -u +%Y-%m-%d).txt}
	export OUT
	mkdir -p "$(dirname "$OUT")"
	trap 'rm -rf "$SIPBENCH_WORK"' EXIT
	cd "$top"
	if [ -n "${RTCEDGE_BIN:-}" ]; then
		cp "$RTCEDGE_BIN" "$SIPBENCH_WORK/rtcedge"
	else
		$GO build -tags nolibopusfile -trimpath -o "$SIPBENCH_WORK/rtcedge" ./cmd/rtcedge
	fi
	$GO build -trimpath -o "$SIPBENCH_WORK/sipload" ./bench/sipload
	{
		echo "# date: $(date -u '+%Y-%m-%d %H:%M') UTC"
		echo "# command: sh bench/compare/sip.sh $*  (REPEAT=$REPEAT SPAN=$SPAN STEP=$STEP NICE=$NICE KAMAILIO_MEMORY=$KAMAILIO_MEMORY)"
		echo "# processor: $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) cores; $(lscpu | sed -n 's/^Hypervisor vendor: *//p')"
		echo "# kernel: $(uname -sr)"
		echo "# rtcedge: $(cd "$top" && git describe --always --dirty), $($GO version | cut -d' ' -f3)"
		echo "# kamailio: $(sh "$top/e2e/peers.sh" run kamailio -v 2>/dev/null | sed -n '1s/version: //p')"
		echo "# load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
	} >"$OUT"
	setsid unshare --net sh "$0" "$@" &
	inner=$!
	trap 'kill "$inner" 2>/dev/null; wait "$inner" 2>/dev/null; rm -rf "$SIPBENCH_WORK"' EXIT
	trap 'exit 130' INT TERM
	wait "$inner"
	exit 0
fi

ip link set lo up
# A session is one group to the scheduler (sched(7), autogroup): without this the nice values would count among ourselves only, and
# whatever else runs on the machine would get half of each core.
echo "$NICE" >/proc/self/autogroup 2>/dev/null || true
[ $# -gt 0 ] || set -- udp udp-max overload register register-max tcp tcp-max ws ws-max
points=" $* "
pid=
trap 'stop' EXIT
trap 'exit 130' INT TERM

wanted() {
	case $points in *" $1 "*) return 0 ;; esac
	return 1
}

stop() {
	[ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
	pid=
}

# 2. One proxy at a time. $2 is plain, auth or stream: what it must be able to do.
start() {
	case $1-$2 in
	edge-plain) set -- ;;
	edge-auth)
		awk 'BEGIN { for (i = 0; i < 1000; i++) printf "u%05d:bench.invalid:password=secret\n", i }' >"$SIPBENCH_WORK/accounts"
		set -- --auth "$SIPBENCH_WORK/accounts" --realm bench.invalid
		;;
	edge-stream) set -- --listen tcp:127.0.0.1:5060 --listen ws:127.0.0.1:8088 ;;
	kamailio-*)
		case $2 in plain) set -- ;; auth) set -- -A WITH_AUTH ;; stream) set -- -A WITH_STREAM ;; esac
		taskset -c "$PROXY_CORE" sh "$top/e2e/peers.sh" run --bind "$here" \
			kamailio -DD -E "$@" -f /mnt/kamailio.cfg -Y /tmp -X "$KAMAILIO_MEMORY" -x "$KAMAILIO_MEMORY" -m 256 -M 32 -b 8388608 -B 4194304 >"$SIPBENCH_WORK/kamailio.log" 2>&1 &
		pid=$!
		return
		;;
	esac
	taskset -c "$PROXY_CORE" "$SIPBENCH_WORK/rtcedge" sip --listen udp:127.0.0.1:5060 "$@" --workers 1 --media none \
		--farm call=udp:127.0.0.11:5080,udp:127.0.0.12:5080,udp:127.0.0.13:5080 --admin 127.0.0.1:8081 --drain-notice 0s \
		--drain-limit 0s --log-level warn >"$SIPBENCH_WORK/rtcedge.log" 2>&1 &
	pid=$!
}

# 3. One run of the generator; its last line is the result. $1 side, $2 repetition, $3 point, the rest are its arguments.
load() {
	side=$1 rep=$2 point=$3
	shift 3
	# A proxy that has just started may not listen yet: connections are refused, datagrams repeated by the generator.
	for try in 1 2 3 4 5; do
		if taskset -c "$LOAD_CORE" "$SIPBENCH_WORK/sipload" --pid "$pid" --core "$PROXY_CORE" "$@" >"$SIPBENCH_WORK/last" 2>"$SIPBENCH_WORK/why"; then
			sed "s/^/$side $rep $point /" "$SIPBENCH_WORK/last" | tee -a "$OUT" | grep -v ' step ' >&2 || true
			return
		fi
		sleep 0.5
	done
	echo "$side $rep $point failed: $(cat "$SIPBENCH_WORK/why")" | tee -a "$OUT" >&2
}

peak() { # the rate of the last search
	sed -n 's/.* max .*rate=\([0-9]*\).*/\1/p' "$SIPBENCH_WORK/last"
}

udp_points() {
	start "$1" plain
	if wanted udp; then
		load "$1" "$2" udp-20k --rate 20000 --time "$SPAN"
		load "$1" "$2" udp-55k --rate 55000 --time "$SPAN"
	fi
	if wanted udp-max || wanted overload; then
		load "$1" "$2" udp-max --max --rate 40000 --time "$STEP"
		top_rate=$(peak)
		! wanted overload || [ -z "$top_rate" ] || load "$1" "$2" overload-2x --rate $((top_rate * 2)) --time "$SPAN"
	fi
	stop
}

register_points() {
	start "$1" auth
	! wanted register || load "$1" "$2" register-15k --scenario register-digest --rate 15000 --time "$SPAN"
	! wanted register-max || load "$1" "$2" register-max --scenario register-digest --max --rate 15000 --time "$STEP"
	stop
}

stream_points() { # $3 is tcp or ws, $4 its port
	start "$1" stream
	! wanted "$3" || load "$1" "$2" "$3-20k" --scenario "$3-call" --via "127.0.0.1:$4" --clients 64 --rate 20000 --time "$SPAN"
	! wanted "$3-max" || load "$1" "$2" "$3-max" --scenario "$3-call" --via "127.0.0.1:$4" --clients 64 --max --rate 20000 --time "$STEP"
	stop
}

# both runs the points of one kind on one side right after the other, so that both meet the same neighbours on the machine.
both() {
	what=$1
	shift
	[ "$KAMAILIO" = no ] || "$what" kamailio "$@"
	[ "$EDGE" = no ] || "$what" edge "$@"
}

rep=1
while [ "$rep" -le "$REPEAT" ]; do
	if wanted udp || wanted udp-max || wanted overload; then both udp_points "$rep"; fi
	if wanted register || wanted register-max; then both register_points "$rep"; fi
	if wanted tcp || wanted tcp-max; then both stream_points "$rep" tcp 5060; fi
	if wanted ws || wanted ws-max; then both stream_points "$rep" ws 8088; fi
	rep=$((rep + 1))
done
echo "# load average after: $(cut -d' ' -f1-3 /proc/loadavg)" >>"$OUT"

# 4. Medians.
awk '
function median(list,   a, n, i, j, t) {
	n = split(list, a, " ")
	for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j - 1] + 0 > a[j] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
	return n == 0 ? 0 : n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}
function row(side, point,   k) {
	k = side SUBSEP point
	return sprintf("%d | %d | %.3f %% | %.1f | %.2f | %.1f", median(v[k, "rate"]), median(v[k, "good"]), median(v[k, "loss"]), median(v[k, "cpu_us"]),
		median(v[k, "p50_us"]) / 1000, median(v[k, "p99_us"]) / 1000)
}
/^#/ || / step / || / failed: / { next }
{
	if (!seen[$3]++) order[++points] = $3
	for (i = 6; i <= NF; i++) {
		n = split($i, kv, "=")
		if (n == 2) { sub("%", "", kv[2]); v[$1, $3, kv[1]] = v[$1, $3, kv[1]] " " kv[2] }
	}
}
END {
	print "| point | proxy | msgs/s | in whole calls | loss | CPU us/msg | p50 ms | p99 ms |"
	print "|---|---|---|---|---|---|---|---|"
	for (i = 1; i <= points; i++) {
		p = order[i]
		print "| " p " | Kamailio | " row("kamailio", p) " |"
		print "| | rtcedge | " row("edge", p) " |"
		a = median(v["kamailio", p, "rate"]); b = median(v["edge", p, "rate"])
		c = median(v["kamailio", p, "cpu_us"]); d = median(v["edge", p, "cpu_us"])
		if (a > 0 && c > 0 && b > 0) printf "| | ratio | %.2f | | | %.2f | | |\n", b / a, d / c
	}
}' "$OUT"
