package demo

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

const (
	killAfter  = 5 * time.Second // from the polite signal to the other one, if children.patience says nothing else
	tailSize   = 32 << 10        // bytes kept of what a child wrote; older ones are dropped
	waitOutput = time.Second     // for the output of a child that has ended
)

// command says how to start a child.
type command struct {
	name  string
	args  []string // of the pillion executable
	env   []string // beside the parent's
	files []*os.File
}

// children are the processes of one demo. Each ends when its standard input does, so none outlives its parent; on Linux
// the kernel sees to it as well. Each has a process group of its own, so that Ctrl-C reaches the parent only, which then ends them in order.
type children struct {
	// Static after construction.
	executable string
	logs       io.Writer // if not nil, also gets what the children write
	died       context.CancelCauseFunc
	patience   time.Duration
	starts     chan func() // run by one goroutine on one thread: the kernel's promise is bound to the thread that forked

	// Owned by the caller of start.
	all []*child
}

// child is one process.
type child struct {
	name     string
	cmd      *exec.Cmd
	lifeline *os.File // our end of its standard input
	output   *tail
	ended    chan struct{}
	err      error // valid once ended is closed
	stopping bool
	mu       sync.Mutex // guards stopping
}

// newChildren returns an empty set; died is called if one ends on its own.
func newChildren(executable string, logs io.Writer, died context.CancelCauseFunc) *children {
	c := &children{executable: executable, logs: logs, died: died, patience: killAfter, starts: make(chan func())}
	go c.startThread()
	return c
}

// startThread runs starts on one thread until starts is closed, by stop.
func (c *children) startThread() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for f := range c.starts {
		f()
	}
}

// start starts one child.
func (c *children) start(spec command) (*child, error) {
	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	defer stdin.Close()
	cmd := exec.Command(c.executable, spec.args...)
	cmd.Env = append(withoutProxy(os.Environ()), spec.env...)
	cmd.Stdin = stdin
	cmd.ExtraFiles = spec.files
	cmd.WaitDelay = waitOutput
	cmd.SysProcAttr = childAttr()
	out := &tail{name: spec.name, also: c.logs}
	cmd.Stdout, cmd.Stderr = out, out
	started := make(chan error)
	c.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		lifeline.Close()
		return nil, fmt.Errorf("start %s: %w", spec.name, err)
	}
	ch := &child{name: spec.name, cmd: cmd, lifeline: lifeline, output: out, ended: make(chan struct{})}
	c.all = append(c.all, ch)
	go c.await(ch)
	return ch, nil
}

// await waits for ch and reports an end that nobody asked for.
func (c *children) await(ch *child) {
	err := ch.cmd.Wait()
	ch.mu.Lock()
	asked := ch.stopping
	ch.mu.Unlock()
	if !asked {
		err = fmt.Errorf("%s ended by itself: %v", ch.name, ch.cmd.ProcessState)
		c.died(err)
	}
	ch.err = err
	close(ch.ended)
}

// stop ends those that keep says, waits for them, and returns the names of those that had to be killed.
func (c *children) stop(which func(*child) bool) (killed []string) {
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
				killed = append(killed, ch.name)
				_ = ch.cmd.Process.Kill()
				<-ch.ended
			}
		}
		ch.lifeline.Close()
	}
	return killed
}

// close ends what is still there and the thread.
func (c *children) close() {
	c.stop(func(*child) bool { return true })
	close(c.starts)
}

// closedTime returns a channel on which the time has come.
func closedTime() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// withoutProxy returns env without what would send the demo's traffic elsewhere.
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
