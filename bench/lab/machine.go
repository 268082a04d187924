package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"
)

// Idle is the share of the processors' time that nobody wanted during d: -1 where the kernel does not tell. Without any to spare every time that is measured
// is rather the machine's.
func Idle(ctx context.Context, d time.Duration) float64 {
	idle1, all1, err1 := processors()
	Sleep(ctx, d)
	idle2, all2, err2 := processors()
	if err1 != nil || err2 != nil || all2 <= all1 {
		return -1
	}
	return float64(idle2-idle1) / float64(all2-all1)
}

// processors reads the first line of /proc/stat (proc(5)): cpu user nice system idle iowait irq softirq steal.
func processors() (idle, all uint64, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return 0, 0, err
	}
	var t [8]uint64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]); err != nil {
		return 0, 0, err
	}
	for _, n := range t {
		all += n
	}
	return t[3] + t[4], all, nil
}
