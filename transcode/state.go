package transcode

// State is what the codecs of a pipe know of their streams, for a pipe that goes on in another process. It is of use while the
// streams stand where they stood: adaptive steps that are seconds old are louder or softer than the voice. Only G.722 has one; G.711
// and L16 remember nothing, and that of Opus is libopus' own (RFC 6716 section 4.5: a decoder is in step within a few frames).
type State struct {
	Decoder []byte `json:"dec,omitempty"`
	Encoder []byte `json:"enc,omitempty"`
}

// State returns a copy.
func (p *Pipe) State() (st State) {
	if d, ok := p.dec.(g722Decoder); ok {
		st.Decoder = d.d.AppendState(nil)
	}
	if e, ok := p.enc.(g722Encoder); ok {
		st.Encoder = e.e.AppendState(nil)
	}
	return st
}

// SetState goes on from the state of another pipe with the same configuration. What does not fit is left out.
func (p *Pipe) SetState(st State) {
	if d, ok := p.dec.(g722Decoder); ok {
		d.d.SetState(st.Decoder)
	}
	if e, ok := p.enc.(g722Encoder); ok {
		e.e.SetState(st.Encoder)
	}
}
