package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReap: as PID 1, and as the nearest reaper of orphans, pillion collects them while the app runs.
func TestReap(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	a := testSupervisor(t, "sh", "-c", `sh -c 'sleep 0.05 & echo $! > orphan'; while [ -e wait ]; do sleep 0.02; done; exit 5`)
	a.reap = true
	write(t, "wait", "")
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	orphan := 0
	for deadline := time.Now().Add(patience); orphan == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, _ := os.ReadFile("orphan")
		orphan, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	for deadline := time.Now().Add(patience); syscall.Kill(orphan, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the orphan %d is not collected", orphan)
		}
	}
	if a.ended() {
		t.Fatal("the app has ended before the orphan was collected")
	}
	os.Remove("wait")
	select {
	case <-a.Done():
	case <-time.After(patience):
		t.Fatal("the app does not end")
	}
	if code := a.Code(); code != 5 {
		t.Errorf("Code = %d, want 5", code)
	}
}

// TestPillionKilled: the app does not outlive a pillion that had no chance to stop it.
func TestPillionKilled(t *testing.T) {
	p := supervise(t, "5s", `trap 'echo term; exit' TERM; echo $$; while :; do sleep 0.02; done`)
	pid := p.number()
	p.signal(syscall.SIGKILL)
	p.expect("term")
	gone(t, pid)
}

// openTerminal returns both ends of a new pseudo-terminal.
func openTerminal(t *testing.T) (controller, terminal *os.File) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { controller.Close() })
	raw, err := controller.SyscallConn() // not Fd, which would make reads ignore Close
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return controller, terminal
}

// TestTerminal: the app shares the terminal: it can read from it, and Ctrl-C reaches it, after which pillion ends with its code.
func TestTerminal(t *testing.T) {
	controller, terminal := openTerminal(t)
	if !isTerminal(terminal) {
		t.Error("a terminal is not known as one")
	}
	dir := inFolder(t)
	cmd := exec.Command(os.Args[0], "run", "--service", "web", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--dev-ca", dir+"/ca", "--drain", "5s", "--", "sh", "-c", `trap 'exit 9' INT; read x; echo "got $x" > read; while :; do sleep 0.02; done`)
	cmd.Env = append(os.Environ(), actAsPillion+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	controller.Write([]byte("hello\n"))
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile("read"); err == nil && string(text) == "got hello\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the app cannot read from the terminal")
		}
	}
	controller.Write([]byte{3}) // Ctrl-C
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("Ctrl-C does not end pillion")
	}
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d, want the app's, 9", code)
	}
}
