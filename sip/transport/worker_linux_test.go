package transport

import "testing"

// soloWorker makes a worker of a Transport that does not run; turn does what its loop does for one batch of each socket.
func soloWorker(t testing.TB, tr *Transport) (turn, release func()) {
	t.Helper()
	var sockets []*kernelSocket
	for _, l := range tr.listeners {
		sockets = append(sockets, l.packet.(*kernelSocket))
	}
	w, err := tr.newKernelWorker(0, sockets)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		for _, k := range sockets {
			w.read(k)
		}
		for _, o := range w.out {
			o.flush()
		}
	}, w.release
}

// BenchmarkWorker is receive, handle, send of batches over loopback, on one goroutine with its generator and sink: the
// stack's work for both directions is in the figure.
func BenchmarkWorker(b *testing.B) {
	d := &discard{}
	tr, err := New(Config{Listeners: listen(UDP), Workers: 1}, d)
	if err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	l := tr.Listeners()[0]
	c := dialUDP(b, l)
	d.echo = Target{Listener: l, Addr: addrPortOf(c.LocalAddr())}
	turn, release := soloWorker(b, tr)
	defer release()
	m := []byte(message(1, 750))
	buf := make([]byte, 2000)
	b.ReportAllocs()
	for b.Loop() {
		for range batchSize {
			_, _ = c.Write(m)
		}
		turn()
		for range batchSize {
			_, _ = c.Read(buf)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batchSize, "ns/msg")
}
