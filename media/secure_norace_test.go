//go:build !race

package media

const srtpRaceBuild = false
