package g722

// All fixed by the recommendation.
var (
	// The 29 decision levels of the 6 bit quantizer (table 14), scaled to 1/1024 of the step.
	lowDecision = [29]uint32{
		35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786,
		858, 940, 1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, maxDecision,
	}
	lowLevel = countLevels() // how many of them are not above a magnitude, by that in 1/1024 of the step
	lowCode  = codeLevels()  // the code word, by the sign of the difference and that number

	// Output of the 6 bit inverse quantizer by code word (table 17).
	lowOutput6 = [64]int32{
		-17, -17, -17, -17, -3101, -2738, -2376, -2088, -1873, -1689, -1535, -1399, -1279, -1170, -1072, -982,
		-899, -822, -750, -682, -618, -558, -501, -447, -396, -347, -300, -254, -211, -170, -130, -91,
		3101, 2738, 2376, 2088, 1873, 1689, 1535, 1399, 1279, 1170, 1072, 982, 899, 822, 750, 682,
		618, 558, 501, 447, 396, 347, 300, 254, 211, 170, 130, 91, 54, 17, -54, -17,
	}

	// Output of the 4 bit inverse quantizer, which drives the predictor whatever the mode is.
	lowOutput4 = [16]int32{
		0, -2557, -1612, -1121, -786, -530, -323, -150, 2557, 1612, 1121, 786, 530, 323, 150, 0,
	}
	lowStep = [16]int32{
		-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60,
	}

	highOutput = [4]int32{-926, -202, 926, 202}
	highStep   = [4]int32{798, -214, 798, -214}

	// Powers of two in steps of 1/32 (table 15), from the logarithmic to the linear step size.
	antilog = [32]int32{
		2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
		2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
	}
)

const maxDecision = 2919

func countLevels() (levels [maxDecision + 1]uint8) {
	for at := range levels {
		for _, d := range lowDecision {
			if d <= uint32(at) {
				levels[at]++
			}
		}
	}
	return levels
}

func codeLevels() (codes [2][len(lowDecision) + 1]uint8) {
	for level := range codes[0] {
		codes[0][level] = uint8(61 - level)
		codes[1][level] = uint8(33 - level)
		if level < 2 {
			codes[1][level] = uint8(63 - level)
		}
	}
	return codes
}
