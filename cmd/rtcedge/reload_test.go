package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// TestReloadAndFarmNodes: an operator drains a node, brings it back, adds one by the file, and a bad file changes nothing.
func TestReloadAndFarmNodes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	l.Close()
	file := writeFile(t, "edge.yaml", "")
	text := func(nodes string) {
		t.Helper()
		body := fmt.Sprintf("role: sip\nlisten: udp:127.0.0.1:0\nmedia: none\nadmin: %s\nfarm:\n  call: [%s]\nrule: ['farm=call,domain=~^(sip|pstn)\\.', farm=call]\n", admin, nodes)
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text("udp:127.0.0.1:7")
	out := start(t, "sip", "--config", file, "--drain-notice", "0")
	waitReady(t, admin)
	ctl := func(want int, args ...string) string {
		t.Helper()
		var b output
		if code := run(t.Context(), append(args, "--admin", admin), &b, &b, noEnv); code != want {
			t.Fatalf("%v ended with %d, want %d: %s\n%s", args, code, want, b.String(), out)
		}
		return b.String()
	}
	if s := ctl(0, "farm", "drain", "127.0.0.1:7"); !strings.Contains(s, "udp:127.0.0.1:7") || !strings.Contains(s, "drain") {
		t.Errorf("after drain:\n%s", s)
	}
	if s := ctl(0, "farm", "up", "call"); strings.Contains(s, "drain") {
		t.Errorf("after up:\n%s", s)
	}
	if s := ctl(1, "farm", "drain", "127.0.0.9:7"); !strings.Contains(s, `no farm node "127.0.0.9:7" (allowed:`) {
		t.Errorf("unknown node: %s", s)
	}
	if s := ctl(2, "farm", "drain"); !strings.Contains(s, "farm drain: no node (allowed:") {
		t.Errorf("no node: %s", s)
	}
	if s := ctl(0, "farm", "fence", "127.0.0.1:7"); !strings.Contains(s, "fenced") {
		t.Errorf("after fence:\n%s", s)
	}
	if s := ctl(0, "farm", "up", "call"); !strings.Contains(s, "fenced") {
		t.Errorf("a farm's name lifts a fence:\n%s", s)
	}
	if s := ctl(0, "farm", "up", "udp:127.0.0.1:7"); strings.Contains(s, "fenced") {
		t.Errorf("after up:\n%s", s)
	}
	text("udp:127.0.0.1:7, udp:127.0.0.1:13")
	ctl(0, "reload")
	if s := ctl(0, "farm", "list"); !strings.Contains(s, "127.0.0.1:13") {
		t.Errorf("after reload:\n%s", s)
	}
	text("udp:127.0.0.1:nine")
	if s := ctl(1, "reload"); !strings.Contains(s, "edge.yaml:") || !strings.Contains(s, "udp:127.0.0.1:nine") {
		t.Errorf("a bad file: %s", s)
	}
	if s := ctl(0, "farm", "list"); !strings.Contains(s, "127.0.0.1:13") {
		t.Errorf("after a bad file:\n%s", s)
	}
}
