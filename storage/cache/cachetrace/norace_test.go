//go:build !race

package cachetrace

const raceEnabled = false
