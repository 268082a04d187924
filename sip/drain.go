package sip

// Drain refuses new dialogs from now on, with 503 and Retry-After, so that the client goes to another edge node. All that belongs to
// an existing dialog, and registrations, are served on until Run ends.
func (p *Proxy) Drain() { p.draining.Store(true) }

// open refuses what would start a dialog while the proxy drains or has too much to do.
func (p *Proxy) open(c *pass) bool {
	if c.again {
		return true
	}
	if p.sheds(c) {
		p.shed(c)
		return false
	}
	if !p.draining.Load() || !p.dialog(&c.msg) {
		return true
	}
	c.extra = append(c.extra, "Retry-After: 5\r\n"...)
	p.refuse(c, 503, "Draining", DropDraining)
	return false
}
