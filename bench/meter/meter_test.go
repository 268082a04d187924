//go:build linux

package meter

import (
	"os"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	m, err := New(os.Getpid(), -1)
	if err != nil {
		t.Fatal(err)
	}
	before, start := m.Spent(), time.Now()
	for x := 0; m.Spent()-before < 20*time.Millisecond; x++ {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("30 s of work took %v of processor time", m.Spent()-before)
		}
	}
	if b, err := m.Memory(); err != nil || b < 1<<20 {
		t.Errorf("memory %d, %v", b, err)
	}
	nothing, err := New(0, 0)
	if err != nil || nothing.Spent() != 0 || nothing.Waited() != 0 {
		t.Errorf("process 0 took %v, waited %v, %v", nothing.Spent(), nothing.Waited(), err)
	}
}
