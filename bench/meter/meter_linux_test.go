package meter

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestUsageCountsThreadsAndChildren(t *testing.T) {
	// A shell with a child that computes.
	cmd := exec.Command("/bin/sh", "-c", "(while :; do :; done) & child=$!; trap 'kill $child; exit' TERM; wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	var used Usage
	for range 1000 {
		var err error
		if used, err = UsageOf(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if used.CPU > 20*time.Millisecond {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if used.CPU <= 20*time.Millisecond {
		t.Errorf("CPU = %v, want the child's", used.CPU)
	}
	if family, err := Tree(cmd.Process.Pid); err != nil || len(family) != 2 || !slices.Contains(family, cmd.Process.Pid) {
		t.Errorf("Tree = %v, %v, want the shell %d and its child", family, err, cmd.Process.Pid)
	}
}

func TestMemory(t *testing.T) {
	if m, err := MemoryOf(os.Getpid()); err != nil || m.RSS <= 0 || m.Own <= 0 || m.Own >= m.RSS || m.PSS <= 0 {
		t.Errorf("MemoryOf(self) = %+v, %v, want something resident", m, err)
	}
}

func TestNoSuchProcess(t *testing.T) {
	const never = 1 << 30 // beyond the kernel's largest
	if _, err := UsageOf(never); err == nil {
		t.Error("UsageOf of no process: no error")
	}
	if _, err := MemoryOf(never); err == nil {
		t.Error("MemoryOf of no process: no error")
	}
}
