//go:build !linux

package task

import "math"

func cpuLimit() int { return math.MaxInt }
