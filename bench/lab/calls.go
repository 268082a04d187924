package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// next is a caller's address.
func (l *Lab) next() netip.Addr {
	l.host = l.host.Next()
	return l.host
}

// calleeHost is the address of a callee.
func (l *Lab) calleeHost(i int) netip.Addr {
	a := l.cfg.Called.As4()
	a[2], a[3] = a[2]+byte(i/250), byte(1+i%250)
	return netip.AddrFrom4(a)
}

// overTCP tells which callees the edge reaches over TCP: every second one.
func overTCP(i int) bool { return i%2 == 1 && i != Callees-1 }

// directory is a callee's line in the bridge's directory.
func (l *Lab) directory(i int) string {
	line := fmt.Sprintf("c%d=sip:c%d@%s:5060", i, i, l.calleeHost(i))
	if overTCP(i) {
		line += ";transport=tcp"
	}
	return line
}

func (l *Lab) callee(i int) legConfig {
	c := legConfig{name: fmt.Sprint("c", i), host: l.calleeHost(i), edge: l.SIP(), called: true, frame: l.cfg.Frame, pacer: l.pacer}
	if overTCP(i) {
		c.transport = "TCP"
	} else {
		c.hops = 1 + i/2%3
	}
	return c
}

// Callers makes phones that call: of four, two talk UDP with 0 to 3 Record-Routes in front of them, in turn, one TCP, one WSS.
func (l *Lab) Callers(count int) ([]*Leg, error) {
	var legs []*Leg
	for range count {
		i := l.made
		l.made++
		c := legConfig{name: fmt.Sprint("a", i), host: l.next(), edge: l.SIP(), frame: l.cfg.Frame, pacer: l.pacer}
		switch i % 4 {
		case 1:
			c.transport = "TCP"
		case 3:
			c.transport, c.edge = "WSS", netip.AddrPortFrom(l.cfg.Public, wssPort)
		default:
			c.hops = i / 2 % 4
		}
		p, err := newLeg(l.run, &l.all, c)
		if err != nil {
			return legs, err
		}
		legs = append(legs, p)
	}
	l.Legs = append(l.Legs, legs...)
	return legs, nil
}

// Answerers makes phones that are called, c0 and so on: half of them over TCP, the others over UDP with 1 to 3 Record-Routes. Those that were
// made before are closed.
func (l *Lab) Answerers(count int) ([]*Leg, error) {
	if count >= Callees {
		return nil, fmt.Errorf("%d callees (allowed: less than %d)", count, Callees)
	}
	for _, p := range l.Legs {
		if p.called {
			p.end()
		}
	}
	var legs []*Leg
	for i := range count {
		p, err := newLeg(l.run, &l.all, l.callee(i))
		if err != nil {
			return legs, err
		}
		legs = append(legs, p)
	}
	l.Legs = append(l.Legs, legs...)
	return legs, nil
}

// Pair is a 1:1 call: A called B.
type Pair struct{ A, B *Leg }

// NewPairs makes phones for 1:1 calls that are not placed yet; those of earlier calls are gone.
func (l *Lab) NewPairs(count int) ([]Pair, error) {
	l.Clear()
	from, err := l.Callers(count)
	if err != nil {
		return nil, err
	}
	to, err := l.Answerers(count)
	if err != nil {
		return nil, err
	}
	var pairs []Pair
	for i := range from {
		pairs = append(pairs, Pair{from[i], to[i]})
	}
	return pairs, nil
}

// Clear closes all phones.
func (l *Lab) Clear() {
	for _, p := range l.Legs {
		p.end()
	}
	l.Legs = nil
}

// Pairs puts 1:1 calls up: 20 at a time, each heard on both sides.
func (l *Lab) Pairs(ctx context.Context, count int) ([]Pair, error) {
	pairs, err := l.NewPairs(count)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = Each(pairs, 20, func(p Pair) error { return p.A.Dial(ctx, p.B.Name) })
	if err == nil {
		err = l.Heard(ctx, l.Legs)
	}
	l.Printf("%d calls up after %.1f s: %d dialogs with the farm", count, time.Since(began).Seconds(), 2*count)
	return pairs, err
}

// Confer lets phones into one conference.
func (l *Lab) Confer(ctx context.Context, number string, count int) ([]*Leg, error) {
	phones, err := l.Callers(count)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = Each(phones, 10, func(p *Leg) error { return p.Dial(ctx, number) })
	if err == nil {
		err = l.Heard(ctx, phones)
	}
	l.Printf("conference of %d up after %.1f s", count, time.Since(began).Seconds())
	return phones, err
}

// Heard waits until every phone hears something.
func (l *Lab) Heard(ctx context.Context, legs []*Leg) error {
	return Each(legs, len(legs), func(p *Leg) error {
		for end := time.Now().Add(answerTime); p.Media().Heard().Packets < 5; Sleep(ctx, 20*time.Millisecond) {
			if time.Now().After(end) || ctx.Err() != nil {
				return fmt.Errorf("%s hears nothing", p.Name)
			}
		}
		return nil
	})
}
