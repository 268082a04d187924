//go:build race

package media

// srtpRaceBuild: the race detector's build keeps small makes on the heap that others put on the stack.
const srtpRaceBuild = true
