package proxytest

import "testing"

// Allocs is testing.AllocsPerRun, less what goroutines of earlier tests happen to allocate meanwhile: the least of a few
// measurements. What f itself allocates is in every one of them.
func Allocs(runs int, f func()) float64 {
	least := testing.AllocsPerRun(runs, f)
	for range 4 {
		if least == 0 {
			break
		}
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}
