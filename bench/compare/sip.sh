#!/bin/sh
# sip.sh: rtcedge's sip role and Kamailio side by side, with the same load in the same minutes. See bench/README.md.
#
#   sh bench/compare/sip.sh [POINT...]     all points, or some of: parse udp udp-max overload register register-max tcp tcp-max ws ws-max
#
# The proxy runs on core PROXY_CORE (0), the load generator on core LOAD_CORE (1), in a network namespace of their own: the ports are
# free, and the loopback carries nothing else. The sides alternate, REPEAT (3) times. Raw lines go to bench/results/sip-DATE.txt
# (OUT), the table of medians to standard output. SPAN (2s) is the time of a run at a fixed rate, STEP (1s) that of one in a
# search. SIDES are some of: kamailio-qm (as Debian runs it: qm is Kamailio's default memory manager), kamailio-fm (its fastest one) and edge.
# QM_POINTS are the points of kamailio-qm. RTCEDGE_BIN is a binary to use instead of building one. Root is needed, for the namespace and for the
# chroot of e2e/peers.sh. All of it takes about 11 minutes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
: "${PROXY_CORE:=0}" "${LOAD_CORE:=1}" "${REPEAT:=3}" "${SPAN:=2s}" "${STEP:=1s}" "${NICE:=-19}"
: "${SIDES:=kamailio-qm kamailio-fm edge}" "${QM_POINTS:=udp udp-max register-max}" "${GO:=go}"

die() {
	echo "sip.sh: $*" >&2
	exit 1
}

# 1. In the machine's own namespace: build, note the machine, then start again in a new one.
if [ -z "${SIPBENCH_WORK:-}" ]; then
	[ "$(id -u)" = 0 ] || die "needs root"
	for side in $SIDES; do
		case $side in kamailio-qm | kamailio-fm | edge) ;; *) die "SIDES: $side is none of kamailio-qm, kamailio-fm and edge" ;; esac
	done
	SIPBENCH_WORK=$(mktemp -d)
	export SIPBENCH_WORK PROXY_CORE LOAD_CORE REPEAT SPAN STEP NICE SIDES QM_POINTS
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
	$GO test -c -o "$SIPBENCH_WORK/parse" ./sip/message
	{
		echo "# date: $(date -u '+%Y-%m-%d %H:%M') UTC"
		echo "# command: sh bench/compare/sip.sh $*  (REPEAT=$REPEAT SPAN=$SPAN STEP=$STEP NICE=$NICE SIDES='$SIDES')"
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
[ $# -gt 0 ] || set -- parse udp udp-max overload register register-max tcp tcp-max ws ws-max
points=" $* "
pid=
trap 'stop' EXIT
trap 'exit 130' INT TERM

# wanted tells if the side in turn ($side) is to run a point.
wanted() {
	case $points in *" $1 "*) ;; *) return 1 ;; esac
	[ "$side" = kamailio-qm ] || return 0
	case " $QM_POINTS " in *" $1 "*) return 0 ;; esac
	return 1
}

stop() {
	[ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
	pid=
}

# 2. One proxy at a time. $1 is plain, auth or stream: what it must be able to do.
start() {
	case $side in kamailio-*) set -- kamailio "$1" "${side#kamailio-}" ;; *) set -- edge "$1" ;; esac
	case $1-$2 in
	edge-plain) set -- ;;
	edge-auth)
		awk 'BEGIN { for (i = 0; i < 1000; i++) printf "u%05d:bench.invalid:password=secret\n", i }' >"$SIPBENCH_WORK/accounts"
		set -- --auth "$SIPBENCH_WORK/accounts" --realm bench.invalid
		;;
	edge-stream) set -- --listen tcp:127.0.0.1:5060 --listen ws:127.0.0.1:8088 ;;
	kamailio-*)
		memory=$3
		case $2 in plain) set -- ;; auth) set -- -A WITH_AUTH ;; stream) set -- -A WITH_STREAM ;; esac
		taskset -c "$PROXY_CORE" sh "$top/e2e/peers.sh" run --bind "$here" \
			kamailio -DD -E "$@" -f /mnt/kamailio.cfg -Y /tmp -X "$memory" -x "$memory" -m 256 -M 32 -b 8388608 -B 4194304 >"$SIPBENCH_WORK/kamailio.log" 2>&1 &
		pid=$!
		return
		;;
	esac
	taskset -c "$PROXY_CORE" "$SIPBENCH_WORK/rtcedge" sip --listen udp:127.0.0.1:5060 "$@" --workers 1 --media none \
		--farm call=udp:127.0.0.11:5080,udp:127.0.0.12:5080,udp:127.0.0.13:5080 --admin 127.0.0.1:8081 --drain-notice 0s \
		--drain-limit 0s --log-level warn >"$SIPBENCH_WORK/rtcedge.log" 2>&1 &
	pid=$!
}

# 3. One run of the generator; its last line is the result. $1 point, the rest are its arguments.
load() {
	point=$1
	shift
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

# from is where a search begins, below what the side carries on a machine like ours. $1 for edge, $2 kamailio-fm, $3 kamailio-qm.
from() {
	case $side in edge) echo "$1" ;; kamailio-fm) echo "$2" ;; *) echo "$3" ;; esac
}

udp_points() {
	if wanted udp; then
		load udp-20k --rate 20000 --time "$SPAN"
		load udp-55k --rate 55000 --time "$SPAN"
	fi
	if wanted udp-max || wanted overload; then
		load udp-max --max --rate "$(from 90000 55000 30000)" --time "$STEP"
		top_rate=$(peak)
		! wanted overload || [ -z "$top_rate" ] || load overload-2x --rate $((top_rate * 2)) --time "$SPAN"
	fi
}

register_points() {
	! wanted register || load register-15k --scenario register-digest --rate 15000 --time "$SPAN"
	! wanted register-max || load register-max --scenario register-digest --max --rate "$(from 70000 40000 20000)" --time "$STEP"
}

stream_points() { # $1 is tcp or ws, $2 its port
	set -- "$1" --scenario "$1-call" --via "127.0.0.1:$2" --clients 64
	proto=$1
	shift
	! wanted "$proto" || load "$proto-20k" "$@" --rate 20000 --time "$SPAN"
	! wanted "$proto-max" || load "$proto-max" "$@" --max --rate "$(from 70000 25000 15000)" --time "$STEP"
}

# each runs the points of one kind on one side after the other, so that all meet the same neighbours on the machine. $1 is what start is told,
# $2 the kind.
each() {
	mode=$1 kind=$2
	for side in $SIDES; do
		case $kind in
		udp) wanted udp || wanted udp-max || wanted overload || continue ;;
		*) wanted "$kind" || wanted "$kind-max" || continue ;;
		esac
		start "$mode"
		case $kind in
		udp) udp_points ;;
		register) register_points ;;
		tcp) stream_points tcp 5060 ;;
		ws) stream_points ws 8088 ;;
		esac
		stop
	done
}

# The micro benchmark of one INVITE of 1.4 kB, read and written, many times for a short while.
case $points in *" parse "*)
	taskset -c "$PROXY_CORE" "$SIPBENCH_WORK/parse" -test.run '^$' -test.bench 'ParseSplice1400$' -test.benchtime 20ms -test.count 50 |
		sed -n 's/^Benchmark/# Benchmark/p' >>"$OUT"
	;;
esac

rep=1
while [ "$rep" -le "$REPEAT" ]; do
	each plain udp
	each auth register
	each stream tcp
	each stream ws
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
/^# Benchmark/ { parse = parse " " $4; next }
/^#/ || / step / || / failed: / { next }
{
	if (!seen[$3]++) order[++points] = $3
	for (i = 6; i <= NF; i++) {
		n = split($i, kv, "=")
		if (n == 2) { sub("%", "", kv[2]); v[$1, $3, kv[1]] = v[$1, $3, kv[1]] " " kv[2] }
	}
}
function ratio(name, side, p,   a, b, c, d) {
	a = median(v[side, p, "rate"]); b = median(v["edge", p, "rate"])
	c = median(v[side, p, "cpu_us"]); d = median(v["edge", p, "cpu_us"])
	if (a > 0 && c > 0 && b > 0) printf "| | rtcedge / %s | %.2f | | | %.2f | | |\n", name, b / a, d / c
}
END {
	print "| point | proxy | msgs/s | in whole calls | loss | CPU us/msg | p50 ms | p99 ms |"
	print "|---|---|---|---|---|---|---|---|"
	for (i = 1; i <= points; i++) {
		p = order[i]
		print "| " p " | | | | | | | |"
		if (("kamailio-qm", p, "rate") in v) print "| | Kamailio, qm (Debian\047s default) | " row("kamailio-qm", p) " |"
		if (("kamailio-fm", p, "rate") in v) print "| | Kamailio, fm | " row("kamailio-fm", p) " |"
		if (("edge", p, "rate") in v) print "| | rtcedge | " row("edge", p) " |"
		ratio("qm", "kamailio-qm", p)
		ratio("fm", "kamailio-fm", p)
	}
	if (parse != "") printf "\nReading and writing an INVITE of 1.4 kB: %.0f ns, the median of %d short runs.\n", median(parse), split(parse, runs, " ")
	if (("edge", "overload-2x", "good") in v) {
		printf "\nGoodput at twice the maximum, of the maximum: rtcedge %.0f %%", 100 * median(v["edge", "overload-2x", "good"]) / median(v["edge", "udp-max", "rate"])
		if (("kamailio-fm", "overload-2x", "good") in v) printf ", Kamailio %.0f %%", 100 * median(v["kamailio-fm", "overload-2x", "good"]) / median(v["kamailio-fm", "udp-max", "rate"])
		print "."
	}
}' "$OUT"
