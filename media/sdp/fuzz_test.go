package sdp

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

func seeds(f *testing.F) {
	for _, name := range goldenNames(f) {
		f.Add(golden(f, name))
	}
	f.Add([]byte("v=0\no=1 1 1 IN IP4 a\nm=a 0 RTP/AVP 0 0 127 128 x\na=rtpmap:0 /\na=rtpmap:127 x/1/9\na=fmtp:127 \na=crypto:1\na=candidate:1"))
	f.Add([]byte("\r\n\nv=0\r\r\no=1 1 1 IN IP4 a\r"))
}

// What Parse takes is printed byte for byte.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if out := s.Bytes(); !bytes.Equal(out, b) {
			t.Fatalf("%q printed as %q", b, out)
		}
	})
}

// No edit makes a body that cannot be read again, and the values that were set are read back.
func FuzzEdit(f *testing.F) {
	seeds(f)
	codecs := []Codec{{PT: 0, Name: "PCMU", Rate: 8000, Channels: 1}, {PT: 96, Name: "opus", Rate: 48000, Channels: 2, Params: "x=1"},
		{PT: 101, Name: "telephone-event", Rate: 8000, Channels: 1, Params: "0-15"}}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		addr := netip.MustParseAddr("192.0.2.1")
		s.SetOrigin(s.Origin().Next())
		s.SetConnection(addr)
		s.SetName(string(b))
		s.AddAttr("x", string(b))
		s.RemoveICE()
		for _, m := range s.Media {
			m.SetPort(4000)
			m.SetConnection(addr)
			m.SetDirection(RecvOnly)
			m.SetPTime(time.Duration(len(b)) * time.Microsecond)
			m.SetRTCP(netip.AddrPortFrom(addr, 4001))
			m.SetRTCPMux(true)
			m.SetCrypto(append(m.Crypto(), Crypto{Tag: 1, Suite: "X", Keys: []CryptoKey{{KeySalt: []byte{1}}}})...)
			m.SetCandidates(m.Candidates()...)
			_, _, _ = m.RTCP(), m.ExtMaps(), m.Fingerprints()
			m.SetCodecs(m.Codecs())
			m.SetCodecs(codecs)
		}
		out := s.Bytes()
		if len(out) > MaxSize {
			return
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		if !bytes.Equal(again.Bytes(), out) || len(again.Media) != len(s.Media) {
			t.Fatalf("%q is read as something else", out)
		}
		for _, m := range again.Media {
			if m.Port() != 4000 || m.Connection() != addr || m.Direction() != RecvOnly || m.RTCPPort() != 4001 {
				t.Fatalf("an edit is lost: %q", out)
			}
			if !m.IsRTP() {
				continue
			}
			got := m.Codecs()
			if len(got) != len(codecs) {
				t.Fatalf("codecs %+v in %q", got, out)
			}
			for i, c := range got {
				if !sameCodec(c, codecs[i]) && m.Kind() == "audio" {
					t.Fatalf("codec %+v, want %+v in %q", c, codecs[i], out)
				}
			}
		}
	})
}
