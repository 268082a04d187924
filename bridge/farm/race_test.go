//go:build race

package farm

const raceEnabled = true
