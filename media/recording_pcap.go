package media

import (
	"encoding/binary"
	"net/netip"
	"os"
	"time"
)

// Fixed by the format (pcap-savefile(5)) and by the headers in front of the packets (RFC 791, RFC 8200, RFC 768).
const (
	pcapMagic   = 0xa1b2c3d4
	pcapRawIP   = 101 // LINKTYPE_RAW
	pcapSnapLen = 65535

	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	udpHeaderLen  = 8
	protocolUDP   = 17
	hopLimit      = 64
)

// pcapFile gathers packets and writes whole records only.
type pcapFile struct {
	file *os.File
	buf  []byte
}

func newPcapFile(f *os.File) *pcapFile {
	le := binary.LittleEndian
	h := le.AppendUint32(nil, pcapMagic)
	h = le.AppendUint16(h, 2)
	h = le.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...)
	h = le.AppendUint32(h, pcapSnapLen)
	h = le.AppendUint32(h, pcapRawIP)
	return &pcapFile{file: f, buf: h}
}

// add appends an RTP packet as it would have come without SRTP.
func (p *pcapFile) add(at time.Time, from, to netip.AddrPort, rtp []byte) {
	src, dst := from.Addr().Unmap(), to.Addr().Unmap()
	headers := ipv4HeaderLen + udpHeaderLen
	if src.Is6() {
		headers = ipv6HeaderLen + udpHeaderLen
	}
	le, be := binary.LittleEndian, binary.BigEndian
	p.buf = le.AppendUint32(p.buf, uint32(at.Unix()))
	p.buf = le.AppendUint32(p.buf, uint32(at.Nanosecond()/1000))
	p.buf = le.AppendUint32(p.buf, uint32(headers+len(rtp)))
	p.buf = le.AppendUint32(p.buf, uint32(headers+len(rtp)))
	start := len(p.buf)
	if src.Is6() {
		p.buf = append(p.buf, 0x60, 0, 0, 0)
		p.buf = be.AppendUint16(p.buf, uint16(udpHeaderLen+len(rtp)))
		p.buf = append(p.buf, protocolUDP, hopLimit)
	} else {
		p.buf = append(p.buf, 0x45, 0)
		p.buf = be.AppendUint16(p.buf, uint16(headers+len(rtp)))
		p.buf = append(p.buf, 0, 0, 0, 0, hopLimit, protocolUDP, 0, 0)
	}
	p.buf = append(p.buf, src.AsSlice()...)
	p.buf = append(p.buf, dst.AsSlice()...)
	if src.Is4() {
		be.PutUint16(p.buf[start+10:], ipChecksum(p.buf[start:start+ipv4HeaderLen]))
	}
	p.buf = be.AppendUint16(p.buf, from.Port())
	p.buf = be.AppendUint16(p.buf, to.Port())
	p.buf = be.AppendUint16(p.buf, uint16(udpHeaderLen+len(rtp)))
	p.buf = append(p.buf, 0, 0) // no checksum
	p.buf = append(p.buf, rtp...)
}

// ipChecksum is that of RFC 791 section 3.1.
func ipChecksum(header []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (p *pcapFile) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.file.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

func (p *pcapFile) close() error {
	err := p.flush()
	if other := p.file.Close(); err == nil {
		err = other
	}
	return err
}
