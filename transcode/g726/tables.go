package g726

// Rate is a coder's, by the bits of a sample.
type Rate uint8

// The rates of the recommendation.
const (
	Rate16 Rate = 2 + iota
	Rate24
	Rate32
	Rate40
)

// table is what one rate has (ITU-T G.726 tables 1 to 4, 7 to 10): indexed by the magnitude of a code. A code's magnitude is itself, or its ones'
// complement where its sign is set.
type table struct {
	bits    uint
	limits  []int32 // of the normalized logarithm of the difference; the highest below it is the magnitude
	levels  []int32 // what the decoder makes of a magnitude
	weights []int32 // W, how the scale follows, in 1/32
	speeds  []int32 // F, how the speed control follows, in 1/512
	// zeroed says that a positive difference of magnitude 0 has the code of all ones; the others have no such magnitude.
	zeroed bool
}

// smallest is the level of nothing at all: its antilogarithm is 0 for every scale.
const smallest = -2048

func tableOf(r Rate) *table {
	switch r {
	case Rate16:
		return &table{bits: 2, limits: []int32{261}, levels: []int32{116, 365}, weights: []int32{-704, 14048}, speeds: []int32{0, 0xe00}}
	case Rate24:
		return &table{bits: 3, zeroed: true, limits: []int32{8, 218, 331}, levels: []int32{smallest, 135, 273, 373}, weights: []int32{-128, 960, 4384, 18624},
			speeds: []int32{0, 0x200, 0x400, 0xe00}}
	case Rate32:
		return &table{bits: 4, zeroed: true, limits: []int32{-124, 80, 178, 246, 300, 349, 400}, levels: []int32{smallest, 4, 135, 213, 273, 323, 373, 425},
			weights: []int32{-384, 576, 1312, 2048, 3584, 6336, 11360, 35904}, speeds: []int32{0, 0, 0, 0x200, 0x200, 0x200, 0x600, 0xe00}}
	case Rate40:
		return &table{bits: 5, zeroed: true, limits: []int32{-122, -16, 68, 139, 198, 250, 298, 339, 378, 413, 445, 475, 502, 528, 553},
			levels:  []int32{smallest, -66, 28, 104, 169, 224, 274, 318, 358, 395, 429, 459, 488, 514, 539, 566},
			weights: []int32{448, 448, 768, 1248, 1280, 1312, 1856, 3200, 4512, 5728, 7008, 8960, 11456, 14080, 16928, 22272},
			speeds:  []int32{0, 0, 0, 0, 0, 0x200, 0x200, 0x200, 0x200, 0x200, 0x400, 0x600, 0x800, 0xa00, 0xc00, 0xc00}}
	}
	return nil
}
