//go:build race

package transcode

// The race detector allocates by itself.
const raceEnabled = true
