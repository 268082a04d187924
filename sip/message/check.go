package message

// check reads the values that every message must have (RFC 3261 section 8.1.1) and finds what cannot be forwarded.
func (m *Message) check() Fault {
	fault := FaultNone
	if f := m.First(ViaField); f == nil {
		fault = FaultMissing
	} else {
		v, _, ok := NextValue(m.Value(f))
		if !ok || !m.via.parse(v) {
			m.via.Host = nil
			fault = FaultVia
		}
	}
	fault = firstOf(fault, m.checkAddress(From, &m.from, &m.fromTag))
	fault = firstOf(fault, m.checkAddress(To, &m.to, &m.toTag))
	fault = firstOf(fault, m.checkNumbers())
	if m.request {
		fault = firstOf(fault, m.checkURI())
		if m.method == Register {
			fault = firstOf(fault, m.checkContacts())
		}
	}
	return fault
}

// Peek reads, after Scan, what an answer is made from and no more: the topmost Via, From, To and Call-ID. ok is false if that is not all there
// in order; Check then says what is wrong.
func (m *Message) Peek() (ok bool) {
	f, id := m.First(ViaField), m.First(CallID)
	if f == nil || id == nil || m.count[CallID] != 1 || m.count[CSeq] != 1 {
		return false
	}
	v, _, ok := NextValue(m.Value(f))
	if !ok || !m.via.parse(v) || m.checkAddress(From, &m.from, &m.fromTag) != FaultNone || m.checkAddress(To, &m.to, &m.toTag) != FaultNone {
		return false
	}
	m.callID = m.Value(id)
	return len(m.callID) > 0
}

func (m *Message) checkAddress(k Kind, a *NameAddr, tag *[]byte) Fault {
	f := m.First(k)
	if f == nil {
		return FaultMissing
	}
	if m.count[k] > 1 {
		return FaultDuplicate
	}
	rest, ok := a.parse(m.Value(f))
	if !ok {
		return FaultAddress
	}
	if len(rest) > 0 { // a second value
		return FaultDuplicate
	}
	*tag, ok = a.tag()
	if !ok {
		return FaultAddress
	}
	return FaultNone
}

func (m *Message) checkNumbers() Fault {
	f, c := m.First(CallID), m.First(CSeq)
	if f == nil || c == nil {
		if f != nil {
			m.callID = m.Value(f)
		}
		return FaultMissing
	}
	m.callID = m.Value(f)
	if m.count[CallID] > 1 || m.count[CSeq] > 1 || m.count[MaxForwards] > 1 {
		return FaultDuplicate
	}
	if len(m.callID) == 0 || hasLWS(m.callID) {
		return FaultMissing
	}
	v := m.Value(c)
	i := 0
	for i < len(v) && v[i] >= '0' && v[i] <= '9' {
		i++
	}
	j := i
	for j < len(v) && isLWS(v[j]) {
		j++
	}
	n, ok := Number(v[:i], 1<<31-1) // RFC 3261 section 8.1.1.5: less than 2^31
	same := m.request && string(v[j:]) == string(m.name)
	if !ok || i == j || !same && !isToken(v[j:]) {
		return FaultCSeq
	}
	m.cseq, m.cseqName = n, v[j:]
	if m.request {
		if !same {
			return FaultCSeq
		}
	} else {
		m.name, m.method = m.cseqName, methodOf(m.cseqName)
	}
	if f := m.First(MaxForwards); f != nil && m.request {
		n, ok := Number(m.Value(f), 255)
		if !ok {
			return FaultMaxForwards
		}
		m.maxFwd = int(n)
	}
	return FaultNone
}

func (m *Message) checkURI() Fault {
	if !m.uriView.Parse(m.uri) {
		return FaultURI
	}
	switch m.uriView.Scheme {
	case SchemeOther:
		return FaultScheme
	case SchemeSIP, SchemeSIPS:
		if len(m.uriView.Headers) > 0 { // RFC 4475 section 3.1.2.11: no headers in a Request-URI
			return FaultURI
		}
	}
	return FaultNone
}

// checkContacts reads every Contact of a registration: a broken one would be what others are sent to. In other requests it is the far
// end's to judge.
func (m *Message) checkContacts() Fault {
	if m.count[Contact] == 0 {
		return FaultNone
	}
	for i := int(m.first[Contact]) - 1; i < m.n; i++ {
		f := &m.fields[i]
		if f.Kind != Contact {
			continue
		}
		rest := m.Value(f)
		if string(rest) == "*" { // RFC 3261 section 10.2.2
			continue
		}
		for more := true; more; {
			var a NameAddr
			var ok bool
			comma := false
			rest, ok = a.parse(rest)
			if !ok || !paramsValid(a.Params) {
				return FaultAddress
			}
			if len(rest) > 0 {
				rest, comma = rest[1:], true
			}
			more = comma
		}
	}
	return FaultNone
}
