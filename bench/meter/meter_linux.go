package meter

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Tree returns pid, its children and theirs.
func Tree(pid int) ([]int, error) {
	pids := []int{pid}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue // the thread has ended
			}
			return nil, err
		}
		for _, field := range strings.Fields(string(data)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			more, err := Tree(child)
			if err != nil {
				return nil, err
			}
			pids = append(pids, more...)
		}
	}
	return pids, nil
}

// usageOf reads the accounts of one process.
func usageOf(pid int) (Usage, error) {
	var u Usage
	var err error
	if u.CPU, err = clock(pid); err != nil {
		return u, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The name of the program may hold spaces; what follows it does not.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, stime, tick = 11, 12, 10 * time.Millisecond // proc(5), counted from the state
	if len(fields) <= stime {
		return u, fmt.Errorf("/proc/%d/stat is %q", pid, stat)
	}
	user, err1 := strconv.ParseInt(fields[utime], 10, 64)
	system, err2 := strconv.ParseInt(fields[stime], 10, 64)
	u.User, u.System = time.Duration(user)*tick, time.Duration(system)*tick
	if err := errors.Join(err1, err2); err != nil {
		return u, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range threads {
		if n, err := sum(file, "voluntary_ctxt_switches:"); err == nil { // else the thread has ended
			u.Waits += n
		}
	}
	return u, err
}

// memoryOf reads what one process occupies.
func memoryOf(pid int) (Memory, error) {
	rss, err := sum(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
	if err != nil {
		return Memory{}, err
	}
	own, err := sum(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:")
	if err != nil {
		return Memory{}, err
	}
	pss, err := sum(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
	if errors.Is(err, fs.ErrPermission) { // of somebody else's process
		err = nil
	}
	return Memory{RSS: rss << 10, Own: own << 10, PSS: pss << 10}, err
}

// clock is the processor time of a process, ended threads included.
func clock(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED, see clock_getcpuclockid(3)
	id := int32(^pid<<3 | schedClock)
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}

// sum adds the numbers of the lines of a file of /proc that begin with name.
func sum(file, name string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var total int64
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		total += n
	}
	return total, nil
}
