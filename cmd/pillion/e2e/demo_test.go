//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startDemo runs the demo, with its folder in the test's, and returns it once traffic flows, with its six children.
func startDemo(t *testing.T) (p *process, children []string, dir string) {
	t.Helper()
	dir = t.TempDir()
	t.Setenv("TMPDIR", dir)
	p = start(t, "demo", workshop.pillion(), "demo")
	eventually(t, 20*time.Second, "the second status line", func() bool { return strings.Contains(p.output(), "\n   2s  http ") })
	for _, task := range tasksOf(t, p.cmd.Process.Pid) {
		list, err := os.ReadFile(filepath.Join(task, "children"))
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, strings.Fields(string(list))...)
	}
	if len(children) != 6 {
		t.Fatalf("the demo has %d children, want 6: %v\n%s", len(children), children, p.output())
	}
	return p, children, dir
}

// tasksOf returns the folders of a process's threads.
func tasksOf(t *testing.T, pid int) []string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// running reports whether a process exists and is no zombie.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestDemoInterrupted: Ctrl-C ends everything, in order, and leaves nothing.
func TestDemoInterrupted(t *testing.T) {
	if *direct {
		return
	}
	p, children, dir := startDemo(t)
	p.signal(syscall.SIGINT)
	if code := p.wait(20 * time.Second); code != 0 {
		t.Errorf("exit code %d, want 0:\n%s", code, p.output())
	}
	for _, pid := range children {
		if running(pid) {
			t.Errorf("process %s outlives the demo", pid)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("the demo leaves %v, %v", left, err)
	}
}

// TestDemoKilled: no app and no sidecar outlives a demo that was killed.
func TestDemoKilled(t *testing.T) {
	if *direct {
		return
	}
	p, children, _ := startDemo(t)
	p.kill()
	for _, pid := range children {
		eventually(t, 10*time.Second, "process "+pid+" has ended", func() bool { return !running(pid) })
	}
}
