package sdp

import (
	"net/netip"
	"strconv"
	"strings"
)

// RTCP is where the writer of the body wants RTCP: a=rtcp (RFC 3605), else the port above the media's. The address
// is invalid if the body names none that is an IP address; the port is 0 for a rejected media. rtcp-mux is not looked at.
func (m *Media) RTCP() netip.AddrPort {
	addr, port := m.Connection(), m.Port()
	if v, ok := m.Attr("rtcp"); ok {
		if f := strings.Fields(v); len(f) > 0 {
			if n, err := strconv.ParseUint(f[0], 10, 16); err == nil {
				if len(f) == 4 {
					if a, host := parseHost(f[3]); host == "" {
						addr = a
					}
				}
				return netip.AddrPortFrom(addr, uint16(n))
			}
		}
	}
	if port == 0 || port == 65535 {
		return netip.AddrPortFrom(addr, 0)
	}
	return netip.AddrPortFrom(addr, uint16(port+1))
}

// RTCPPort is the port of RTCP.
func (m *Media) RTCPPort() int { return int(m.RTCP().Port()) }

// SetRTCP writes a=rtcp with a port, and with the address unless it is the media's own or invalid.
func (m *Media) SetRTCP(to netip.AddrPort) {
	value := strconv.Itoa(int(to.Port()))
	if a := to.Addr(); a.IsValid() && a != m.Connection() {
		value += " IN " + addrKind(a) + " " + a.WithZone("").String()
	}
	if old, ok := m.Attr("rtcp"); !ok || old != value {
		m.SetAttr("rtcp", value)
	}
}

// RTCPMux tells if a=rtcp-mux stands there (RFC 5761).
func (m *Media) RTCPMux() bool {
	_, ok := m.Attr("rtcp-mux")
	return ok
}

// SetRTCPMux adds or removes a=rtcp-mux; removal takes rtcp-mux-only (RFC 8858) with it.
func (m *Media) SetRTCPMux(on bool) {
	switch {
	case !on:
		m.DelAttr("rtcp-mux", "rtcp-mux-only")
	case !m.RTCPMux():
		m.AddAttr("rtcp-mux", "")
	}
}
