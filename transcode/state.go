package transcode

// State is what the codecs of a pipe know of their streams, for a pipe that goes on in another process. It is of use while the
// streams stand where they stood: adaptive steps that are seconds old are louder or softer than the voice. G.722 and G.726 have one; G.711
// and L16 remember nothing, and that of Opus is libopus' own (RFC 6716 section 4.5: a decoder is in step within a few frames).
type State struct {
	Decoder []byte `json:"dec,omitempty"`
	Encoder []byte `json:"enc,omitempty"`
}

// adaptive is a coder that remembers its stream.
type adaptive interface {
	AppendState(b []byte) []byte
	SetState(b []byte) bool
}

// State returns a copy.
func (p *Pipe) State() (st State) {
	if d := stateOfDecoder(p.dec); d != nil {
		st.Decoder = d.AppendState(nil)
	}
	if e := stateOfEncoder(p.enc); e != nil {
		st.Encoder = e.AppendState(nil)
	}
	return st
}

// SetState goes on from the state of another pipe with the same configuration. What does not fit is left out.
func (p *Pipe) SetState(st State) {
	if d := stateOfDecoder(p.dec); d != nil {
		d.SetState(st.Decoder)
	}
	if e := stateOfEncoder(p.enc); e != nil {
		e.SetState(st.Encoder)
	}
}

// stateOfDecoder is the coder behind a decoder that remembers; nil where none does.
func stateOfDecoder(d decoder) adaptive {
	switch d := d.(type) {
	case g722Decoder:
		return d.d
	case narrowG722Decoder:
		return d.d
	case g726Decoder:
		return d.d
	}
	return nil
}

// stateOfEncoder is the same of an encoder.
func stateOfEncoder(e encoder) adaptive {
	switch e := e.(type) {
	case g722Encoder:
		return e.e
	case narrowG722Encoder:
		return e.e
	case g726Encoder:
		return e.e
	}
	return nil
}
