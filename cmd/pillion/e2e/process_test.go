//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is something that a test started, and ends.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	log  string // path of what it printed
	done chan struct{}
	err  error // of the end; valid once done is closed
}

// start runs a program until the test ends. What it printed is shown if the test fails.
func start(t *testing.T, name string, argv ...string) *process {
	t.Helper()
	return startCommand(t, name, exec.Command(argv[0], argv[1:]...))
}

// startCommand is start for a command with an environment or a folder.
func startCommand(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: cmd, log: filepath.Join(t.TempDir(), "log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	// Its own group, so that its children end with it.
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go p.reap()
	t.Cleanup(p.finish)
	return p
}

// reap waits for the end of the process.
func (p *process) reap() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// finish ends what is left, and shows the log of a failed test.
func (p *process) finish() {
	p.kill()
	if p.t.Failed() {
		p.t.Logf("%s printed:\n%s", p.name, tail(p.output(), 60))
	}
}

// kill ends the process and its children at once.
func (p *process) kill() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// signal sends sig.
func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("signal %v to %s: %v", sig, p.name, err)
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait(d time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(d):
		p.t.Fatalf("%s still runs after %v", p.name, d)
		return -1
	}
}

// output is what it has printed so far.
func (p *process) output() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// rss is the memory that the process occupies, in bytes.
func (p *process) rss() int64 {
	p.t.Helper()
	for line := range strings.Lines(p.proc("status")) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return kib << 10
		}
	}
	p.t.Fatalf("no VmRSS of %s", p.name)
	return 0
}

// fds is the number of its open descriptors.
func (p *process) fds() int {
	p.t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(files)
}

// cpu is the processor time that it has used.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	stat := p.proc("stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, see proc_pid_stat(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ
	return time.Duration(ticks) * time.Second / perSecond
}

// proc reads a file of /proc/PID.
func (p *process) proc(name string) string {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return string(b)
}

// runTool runs a program to its end and returns what it wrote to standard output.
func runTool(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := tryTool(t, argv...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, tail(out, 60))
	}
	return out
}

// tryTool is runTool for programs that may fail; what went to standard error comes after standard output.
func tryTool(t *testing.T, argv ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		stdout.Write(stderr.Bytes())
	}
	return stdout.String(), err
}

// tail is the last n lines of s.
func tail(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = append([]string{fmt.Sprintf("(%d lines before)", len(lines)-n)}, lines[len(lines)-n:]...)
	}
	return strings.Join(lines, "\n")
}

// eventually waits until ok, asking every few milliseconds, and fails with what is wanted otherwise.
func eventually(t *testing.T, d time.Duration, want string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: want %s", d, want)
		}
	}
}
