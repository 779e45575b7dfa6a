package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// supervisor runs the app's command. All methods are safe for concurrent use, and do nothing on a nil supervisor.
//
// On a terminal the app stays in pillion's process group, so that Ctrl-C, Ctrl-Z and reading the terminal
// work as if pillion were not there. Elsewhere it gets a group of its own: whoever signals pillion's group then
// reaches the app only through pillion, in the order of a drain, and nothing of the app is left behind.
type supervisor struct {
	// Static after construction.
	cfg      *config.Config
	log      *slog.Logger
	cmd      *exec.Cmd
	ownGroup bool
	reap     bool          // we are PID 1: orphans are ours to collect
	done     chan struct{} // closed when the app has ended

	mu        sync.Mutex
	listeners map[string]net.Addr // see Listening
	started   bool
	stopped   bool // Stop or Kill has come: Start refuses
	code      int  // valid once done is closed
}

// straggle is how often Stop looks whether the app's group is empty.
const straggle = 10 * time.Millisecond

// newSupervisor prepares args, a command that is not yet started, in the environment env.
func newSupervisor(cfg *config.Config, args, env []string, log *slog.Logger) (*supervisor, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, &startError{args[0], errors.Unwrap(err)}
	}
	a := &supervisor{
		cfg:      cfg,
		log:      log,
		cmd:      &exec.Cmd{Path: path, Args: args, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr},
		ownGroup: !isTerminal(os.Stdin),
		reap:     os.Getpid() == 1,
		done:     make(chan struct{}),

		listeners: make(map[string]net.Addr),
	}
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: a.ownGroup}
	endWithParent(a.cmd.SysProcAttr)
	return a, nil
}

// startError is a command after -- that cannot be started.
type startError struct {
	command string
	err     error
}

func (e *startError) Error() string {
	return fmt.Sprintf("start the app: %s: %v; check the command after --", e.command, e.err)
}

func (e *startError) Unwrap() error { return e.err }

// code is the exit code that shells have for it.
func (e *startError) code() int {
	if errors.Is(e.err, fs.ErrNotExist) || errors.Is(e.err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// Listening says where a listener ("outbound", "admin", "services.billing") really is, for those whose port the
// configuration leaves to the system. The app is told. It comes before Start.
func (a *supervisor) Listening(name string, addr net.Addr) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners[name] = addr
}

// Start starts the command.
func (a *supervisor) Start() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped || a.started {
		return nil
	}
	a.cmd.Env = appEnv(a.cmd.Env, a.cfg, a.listeners)
	started := make(chan error)
	go a.await(started)
	if err := <-started; err != nil {
		return &startError{a.cmd.Args[0], err}
	}
	a.started = true
	a.log.Info("app started", "command", a.cmd.Args[0], "pid", a.cmd.Process.Pid)
	return nil
}

// Done is closed when the app has ended; never if it was not started.
func (a *supervisor) Done() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.done
}

// Code is pillion's exit code: the app's, 128 and the signal's number if a signal killed it, 0 if it was never started.
func (a *supervisor) Code() int {
	if a == nil {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.code
}

// Signal passes sig on to the app.
func (a *supervisor) Signal(sig os.Signal) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.started || a.ended() {
		return
	}
	if err := a.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.log.Warn("pass a signal on to the app", "signal", sig.String(), "error", err)
	}
}

// Stop sends SIGTERM to the app and waits until it, and the processes that it has left in its group, are gone. When ctx ends
// they are killed. It also tidies up after an app that has ended by itself.
func (a *supervisor) Stop(ctx context.Context) {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.stopped = true
	started := a.started
	a.mu.Unlock()
	if !started {
		return
	}
	a.Signal(syscall.SIGTERM)
	select {
	case <-a.done:
	case <-ctx.Done():
		a.log.Warn("the app did not end in time and is killed", "pid", a.cmd.Process.Pid)
		a.Kill()
		return
	}
	a.signalGroup(syscall.SIGTERM)
	for a.groupAlive() {
		select {
		case <-ctx.Done():
			a.Kill()
			return
		case <-time.After(straggle):
		}
	}
}

// Kill ends the app and its group at once, and waits for the app. Stop is the polite way.
func (a *supervisor) Kill() {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.stopped = true
	started := a.started
	a.mu.Unlock()
	if !started {
		return
	}
	a.Signal(syscall.SIGKILL)
	a.signalGroup(syscall.SIGKILL)
	<-a.done
}

// await is the goroutine that starts the app and collects its status; Start waits for the one, Kill and Stop for the other, by done. It
// keeps its thread, because that is the parent whose death the kernel tells the app of.
func (a *supervisor) await(started chan<- error) {
	runtime.LockOSThread()
	err := a.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	code := a.collect()
	a.mu.Lock()
	a.code = code
	close(a.done)
	a.mu.Unlock()
	a.log.Info("app ended", "code", code)
	if a.reap {
		reapOrphans(0)
	}
}

// collect waits for the app and returns its code.
func (a *supervisor) collect() int {
	if a.reap {
		return exitCode(reapOrphans(a.cmd.Process.Pid))
	}
	a.cmd.Wait() // the error says no more than the state
	status, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return a.cmd.ProcessState.ExitCode()
	}
	return exitCode(status)
}

// reapOrphans collects children, whoever they are, until that one is pid, whose status it returns, or until there are none.
func reapOrphans(pid int) syscall.WaitStatus {
	for {
		var status syscall.WaitStatus
		switch got, err := syscall.Wait4(-1, &status, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD: none is left
			return status
		case got == pid && (status.Exited() || status.Signaled()):
			return status
		}
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// hasTerminal reports whether the app runs and shares the terminal with pillion: Ctrl-C is then its own.
func (a *supervisor) hasTerminal() bool {
	return a.hadTerminal() && !a.ended()
}

// hadTerminal is hasTerminal of an app that may have ended.
func (a *supervisor) hadTerminal() bool {
	if a == nil || a.ownGroup {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

// ended reports whether done is closed.
func (a *supervisor) ended() bool {
	select {
	case <-a.Done():
		return true
	default:
		return false
	}
}

// signalGroup signals what is in the app's group, if it has one of its own. The group's number cannot be taken by others while a
// member lives; without members there is nobody to hit but a group newer than the app's end, which waits are too short for.
func (a *supervisor) signalGroup(sig syscall.Signal) {
	if a.ownGroup {
		syscall.Kill(-a.cmd.Process.Pid, sig)
	}
}

// groupAlive reports whether somebody in the app's group still runs. One that has ended counts as gone, though its parent, who is
// not we, may be slow to collect it.
func (a *supervisor) groupAlive() bool {
	if !a.ownGroup || syscall.Kill(-a.cmd.Process.Pid, 0) != nil {
		return false
	}
	return runs(a.cmd.Process.Pid)
}
