package sdp

// staticCodec is what RFC 3551, section 6 says of a payload type; a type that it does not assign has no name.
func staticCodec(pt uint8) Codec {
	c := Codec{PT: pt, Channels: 1}
	switch pt {
	case 0:
		c.Name, c.Rate = "PCMU", 8000
	case 3:
		c.Name, c.Rate = "GSM", 8000
	case 4:
		c.Name, c.Rate = "G723", 8000
	case 5:
		c.Name, c.Rate = "DVI4", 8000
	case 6:
		c.Name, c.Rate = "DVI4", 16000
	case 7:
		c.Name, c.Rate = "LPC", 8000
	case 8:
		c.Name, c.Rate = "PCMA", 8000
	case 9:
		c.Name, c.Rate = "G722", 8000 // samples at 16000: RFC 3551, section 4.5.2
	case 10:
		c.Name, c.Rate, c.Channels = "L16", 44100, 2
	case 11:
		c.Name, c.Rate = "L16", 44100
	case 12:
		c.Name, c.Rate = "QCELP", 8000
	case 13:
		c.Name, c.Rate = "CN", 8000
	case 14:
		c.Name, c.Rate = "MPA", 90000
	case 15:
		c.Name, c.Rate = "G728", 8000
	case 16:
		c.Name, c.Rate = "DVI4", 11025
	case 17:
		c.Name, c.Rate = "DVI4", 22050
	case 18:
		c.Name, c.Rate = "G729", 8000
	case 25:
		c.Name, c.Rate, c.Channels = "CelB", 90000, 0
	case 26:
		c.Name, c.Rate, c.Channels = "JPEG", 90000, 0
	case 28:
		c.Name, c.Rate, c.Channels = "nv", 90000, 0
	case 31:
		c.Name, c.Rate, c.Channels = "H261", 90000, 0
	case 32:
		c.Name, c.Rate, c.Channels = "MPV", 90000, 0
	case 33:
		c.Name, c.Rate, c.Channels = "MP2T", 90000, 0
	case 34:
		c.Name, c.Rate, c.Channels = "H263", 90000, 0
	default:
		c.Channels = 0
	}
	return c
}

// StaticPT finds the static payload type of an encoding, such as 0 for PCMU/8000.
func StaticPT(name string, rate, channels int) (uint8, bool) {
	want := Codec{Name: name, Rate: rate, Channels: channels}
	for pt := uint8(0); pt <= 34; pt++ {
		if c := staticCodec(pt); c.Name != "" && sameEncoding(c, want) {
			return pt, true
		}
	}
	return 0, false
}

// FreePT finds a dynamic payload type that none of the lists uses: prefer if it is dynamic and free, else from 96 to 127,
// then from 35 to 63. The types 64 to 95 are left out: with rtcp-mux they look like RTCP (RFC 5761, section 4).
func FreePT(prefer uint8, used ...[]Codec) (uint8, bool) {
	var taken [128]bool
	for _, list := range used {
		for _, c := range list {
			if c.PT < 128 {
				taken[c.PT] = true
			}
		}
	}
	if prefer >= 96 && prefer < 128 && !taken[prefer] {
		return prefer, true
	}
	for pt := uint8(96); pt < 128; pt++ {
		if !taken[pt] {
			return pt, true
		}
	}
	for pt := uint8(35); pt < 64; pt++ {
		if !taken[pt] {
			return pt, true
		}
	}
	return 0, false
}
