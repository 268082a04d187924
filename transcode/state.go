package transcode

import "rtcedge/transcode/g722"

// State is what the codecs of a pipe know of their streams, for a pipe that goes on in another process. It is of use while the
// streams stand where they stood: adaptive steps that are seconds old are louder or softer than the voice. Only G.722 has one; G.711
// and L16 remember nothing, and that of Opus is libopus' own (RFC 6716 section 4.5: a decoder is in step within a few frames).
type State struct {
	Decoder []byte `json:"dec,omitempty"`
	Encoder []byte `json:"enc,omitempty"`
}

// State returns a copy.
func (p *Pipe) State() (st State) {
	if d := g722Of(p.dec); d != nil {
		st.Decoder = d.AppendState(nil)
	}
	if e := g722To(p.enc); e != nil {
		st.Encoder = e.AppendState(nil)
	}
	return st
}

// SetState goes on from the state of another pipe with the same configuration. What does not fit is left out.
func (p *Pipe) SetState(st State) {
	if d := g722Of(p.dec); d != nil {
		d.SetState(st.Decoder)
	}
	if e := g722To(p.enc); e != nil {
		e.SetState(st.Encoder)
	}
}

// g722Of is the decoder of G.722 in a pipe, for both bands or the lower one; nil if it is another codec's.
func g722Of(d decoder) *g722.Decoder {
	switch d := d.(type) {
	case g722Decoder:
		return d.d
	case narrowG722Decoder:
		return d.d
	}
	return nil
}

// g722To is the same of the encoder.
func g722To(e encoder) *g722.Encoder {
	switch e := e.(type) {
	case g722Encoder:
		return e.e
	case narrowG722Encoder:
		return e.e
	}
	return nil
}
