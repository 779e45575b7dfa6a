package task

import (
	"math"
	"os"
	"strconv"
	"strings"
)

// cpuLimit is the number of whole processors that the process's control group may use. GOMAXPROCS rounds a limit up, and never
// goes below two; a loop more than that costs more than it gives.
func cpuLimit() int {
	if text, err := os.ReadFile("/sys/fs/cgroup/cpu.max"); err == nil {
		return quotaCPUs(string(text))
	}
	quota, err := os.ReadFile("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
	period, err2 := os.ReadFile("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
	if err != nil || err2 != nil {
		return math.MaxInt
	}
	return quotaCPUs(string(quota) + " " + string(period))
}

// quotaCPUs reads "quota period", both in microseconds; a quota that is no positive number means none.
func quotaCPUs(text string) int {
	f := strings.Fields(text)
	if len(f) != 2 {
		return math.MaxInt
	}
	quota, err := strconv.Atoi(f[0])
	period, err2 := strconv.Atoi(f[1])
	if err != nil || err2 != nil || quota <= 0 || period <= 0 {
		return math.MaxInt
	}
	return max(1, quota/period)
}
