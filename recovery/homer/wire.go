package homer

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"time"
)

// transactionRequest is the body of /api/v3/call/transaction.
type transactionRequest struct {
	Timestamp struct {
		From int64 `json:"from"` // ms
		To   int64 `json:"to"`
	} `json:"timestamp"`
	Param struct {
		Transaction struct{} `json:"transaction"`
		Limit       int      `json:"limit"`
		Search      struct {
			Call struct {
				CallID []string `json:"callid"`
			} `json:"1_call"`
		} `json:"search"`
	} `json:"param"`
}

// row is a message as HOMER tells it. Where it is a real one, derived fields may be wrong (to_domain is): raw, addresses and times are read.
type row struct {
	ID           json.Number `json:"id"`
	CallID       string      `json:"callid"`
	SID          string      `json:"sid"`
	Correlation  string      `json:"correlation_id"`
	Raw          string      `json:"raw,omitempty"`
	Family       int         `json:"protocolFamily"` // 2, 10
	Protocol     json.Number `json:"protocol"`       // 17, 6
	SourceIP     string      `json:"srcIp"`
	SourcePort   json.Number `json:"srcPort"`
	TargetIP     string      `json:"dstIp"`
	TargetPort   json.Number `json:"dstPort"`
	PayloadType  int         `json:"payloadType"`
	CaptureID    string      `json:"captureId"`
	CreateDate   int64       `json:"create_date"` // ms
	CreateTS     int64       `json:"create_ts"`   // ms
	MicroTS      json.Number `json:"micro_ts"`    // µs
	TimeSeconds  json.Number `json:"timeSeconds"`
	TimeUseconds json.Number `json:"timeUseconds"`
	Node         string      `json:"node"`
	DBNode       string      `json:"dbnode"`
	Profile      string      `json:"profile"`
	derived

	// Of a search.
	Table       string      `json:"table,omitempty"`
	UUID        json.Number `json:"uuid,omitempty"`
	SourceAlias string      `json:"aliasSrc,omitempty"`
	TargetAlias string      `json:"aliasDst,omitempty"`
}

type transactionAnswer struct {
	Data struct {
		Alias    struct{} `json:"alias"`
		CallData []any    `json:"calldata"`
		Hosts    struct{} `json:"hosts"`
		Messages []row    `json:"messages"`
	} `json:"data"`
	Keys  []string `json:"keys"`
	Total int      `json:"total"`
}

type searchAnswer struct {
	Data  []row    `json:"data"`
	Keys  []string `json:"keys"`
	Total int      `json:"total"`
}

func number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

func toRow(m Message) row {
	family := 2
	if m.Source.Addr().Is6() {
		family = 10
	}
	return row{
		ID: number(int64(m.ID)), CallID: m.CallID, SID: m.CallID, Correlation: m.CallID, Raw: m.Raw, Family: family, Protocol: number(int64(m.Transport)),
		SourceIP: m.Source.Addr().String(), SourcePort: number(int64(m.Source.Port())),
		TargetIP: m.Destination.Addr().String(), TargetPort: number(int64(m.Destination.Port())),
		PayloadType: 1, CaptureID: strconv.FormatUint(uint64(m.CaptureID), 10),
		CreateDate: m.Time.UnixMilli(), CreateTS: m.Time.UnixMilli(), MicroTS: number(m.Time.UnixMicro()),
		TimeSeconds: number(m.Time.Unix()), TimeUseconds: number(int64(m.Time.Nanosecond() / 1000)), Node: m.Node, DBNode: "local", Profile: "1_call",
		derived: derive(m.Raw),
	}
}

// message reads a row; one without usable addresses or text is none.
func (r *row) message() (Message, bool) {
	src, ok1 := address(r.SourceIP, r.SourcePort)
	dst, ok2 := address(r.TargetIP, r.TargetPort)
	id := r.CallID
	if id == "" {
		id = r.SID
	}
	if !ok1 || !ok2 || r.Raw == "" || id == "" {
		return Message{}, false
	}
	m := Message{CallID: id, Raw: r.Raw, Source: src, Destination: dst, Node: r.Node}
	if us, err := r.MicroTS.Int64(); err == nil && us > 0 {
		m.Time = time.UnixMicro(us)
	} else if r.CreateTS > 0 {
		m.Time = time.UnixMilli(r.CreateTS)
	} else {
		m.Time = time.UnixMilli(r.CreateDate)
	}
	if n, err := r.Protocol.Int64(); err == nil {
		m.Transport = uint8(n)
	}
	if n, err := strconv.ParseUint(r.CaptureID, 10, 32); err == nil {
		m.CaptureID = uint32(n)
	}
	return m, true
}

func address(ip string, port json.Number) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(ip)
	n, err2 := strconv.ParseUint(port.String(), 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), err == nil && err2 == nil
}
