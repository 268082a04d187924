package ng

import "sync"

// affinity remembers which node answered the offers of a call, so that a node that comes back does not take calls away
// from the one that carries them. It is a help, not a need: an edge that never saw the offer finds the node by rank and,
// if that one does not know the call, by asking the next. Two generations bound it.
type affinity struct {
	mu         sync.Mutex
	young, old map[string]*node
}

// affinityCalls is the size of a generation, chosen by us: about 20 MB at most.
const affinityCalls = 1 << 16

func (a *affinity) get(callID string) *node {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.young[callID]; n != nil {
		return n
	}
	return a.old[callID]
}

func (a *affinity) set(callID string, n *node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.young) >= affinityCalls || a.young == nil {
		a.old, a.young = a.young, map[string]*node{}
	}
	a.young[callID] = n
}

func (a *affinity) forget(callID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.young, callID)
	delete(a.old, callID)
}
