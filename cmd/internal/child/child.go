// Package child starts processes of this executable and makes sure that they end: with their parent, whatever becomes of it, or in the order that
// it chooses. The demo and the bench use it.
package child

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// KillAfter is the time from the polite signal to the other one.
const KillAfter = 5 * time.Second

const (
	tailSize   = 32 << 10    // bytes kept of what a child wrote; older ones are dropped
	waitOutput = time.Second // for the output of a child that has ended
)

// Command says how to start a child.
type Command struct {
	Name  string
	Args  []string   // of the executable
	Env   []string   // beside the parent's
	Files []*os.File // inherited, from descriptor 3 on; the caller closes its own
}

// Set is some processes of one executable. Each ends when its standard input does, so none outlives its parent; on Linux
// the kernel sees to it as well. Each has a process group of its own, so that Ctrl-C reaches the parent only, which then ends them in order.
type Set struct {
	// Static after construction.
	executable string
	logs       io.Writer // if not nil, also gets what the children write
	died       context.CancelCauseFunc
	patience   time.Duration
	starts     chan func() // run by one goroutine on one thread: the kernel's promise is bound to the thread that forked

	// Owned by the caller of Start.
	all []*Child
}

// Child is one process.
type Child struct {
	Name     string
	cmd      *exec.Cmd
	lifeline *os.File // our end of its standard input
	output   *tail
	ended    chan struct{}
	err      error // valid once ended is closed
	stopping bool
	mu       sync.Mutex // guards stopping
}

// New returns an empty set of processes of executable; died is called if one ends on its own. logs, if not nil, also gets what they write.
// The caller calls Close.
func New(executable string, logs io.Writer, died context.CancelCauseFunc) *Set {
	c := &Set{executable: executable, logs: logs, died: died, patience: KillAfter, starts: make(chan func())}
	go c.startThread()
	return c
}

// startThread runs starts on one thread until starts is closed, by stop.
func (c *Set) startThread() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for f := range c.starts {
		f()
	}
}

// Start starts one child.
func (c *Set) Start(spec Command) (*Child, error) {
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer stdin.Close()
	cmd := exec.Command(c.executable, spec.Args...)
	cmd.Env = append(withoutProxy(os.Environ()), spec.Env...)
	cmd.Stdin = stdin
	cmd.ExtraFiles = spec.Files
	cmd.WaitDelay = waitOutput
	cmd.SysProcAttr = childAttr()
	out := &tail{name: spec.Name, also: c.logs}
	cmd.Stdout, cmd.Stderr = out, out
	started := make(chan error)
	c.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		lifeline.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	ch := &Child{Name: spec.Name, cmd: cmd, lifeline: lifeline, output: out, ended: make(chan struct{})}
	c.all = append(c.all, ch)
	go c.await(ch)
	return ch, nil
}

// await waits for ch and reports an end that nobody asked for.
func (c *Set) await(ch *Child) {
	err := ch.cmd.Wait()
	ch.mu.Lock()
	asked := ch.stopping
	ch.mu.Unlock()
	if !asked {
		err = fmt.Errorf("%s ended by itself: %v", ch.Name, ch.cmd.ProcessState)
		c.died(err)
	}
	ch.err = err
	close(ch.ended)
}

// Stop ends those that which names, waits for them, and returns the names of those that had to be killed.
func (c *Set) Stop(which func(*Child) bool) (killed []string) {
	for _, ch := range c.all {
		if which(ch) {
			ch.mu.Lock()
			ch.stopping = true
			ch.mu.Unlock()
			_ = ch.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		}
	}
	late := time.After(c.patience)
	for _, ch := range c.all {
		if !which(ch) {
			continue
		}
		select {
		case <-ch.ended:
		case <-late:
			late = closedTime() // the others have had their time too
			select {
			case <-ch.ended:
			default:
				killed = append(killed, ch.Name)
				_ = ch.cmd.Process.Kill()
				<-ch.ended
			}
		}
		ch.lifeline.Close()
	}
	return killed
}

// All returns the children that were started, in order.
func (c *Set) All() []*Child { return c.all }

// Pid is the number of the process.
func (ch *Child) Pid() int { return ch.cmd.Process.Pid }

// Last returns the last n lines that it wrote, indented.
func (ch *Child) Last(n int) string { return ch.output.last(n) }

// Everyone names all of a Set to Stop.
func Everyone(*Child) bool { return true }

// Close ends what is still there, and the thread.
func (c *Set) Close() {
	c.Stop(func(*Child) bool { return true })
	close(c.starts)
}

// closedTime returns a channel on which the time has come.
func closedTime() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// withoutProxy returns env without what would send the children's traffic elsewhere.
func withoutProxy(env []string) []string {
	var kept []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "all_proxy", "no_proxy":
		default:
			kept = append(kept, kv)
		}
	}
	return kept
}

// EndWithInput calls end once standard input has ended: the parent is gone.
func EndWithInput(in io.Reader, end func()) {
	_, _ = io.Copy(io.Discard, in)
	end()
}

// tail keeps the end of what a child writes. It is safe for concurrent use.
type tail struct {
	name string
	also io.Writer // may be nil

	mu   sync.Mutex
	buf  []byte
	line []byte // the beginning of a line, not yet shown
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
	}
	if t.also == nil {
		return len(p), nil
	}
	t.line = append(t.line, p...)
	for i := bytes.IndexByte(t.line, '\n'); i >= 0 || len(t.line) > tailSize; i = bytes.IndexByte(t.line, '\n') {
		if i < 0 {
			i = len(t.line) - 1 // a line that does not end: shown in pieces
		}
		fmt.Fprintf(t.also, "%-17s %s\n", t.name, bytes.TrimRight(t.line[:i+1], "\n"))
		t.line = t.line[i+1:]
	}
	return len(p), nil
}

// last returns the last n lines, indented.
func (t *tail) last(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.buf) == 0 {
		return "    (nothing)\n"
	}
	lines := strings.Split(strings.TrimRight(string(t.buf), "\n"), "\n")
	lines = lines[max(0, len(lines)-n):]
	return "    " + strings.Join(lines, "\n    ") + "\n"
}
