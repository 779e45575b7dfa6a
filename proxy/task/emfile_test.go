//go:build unix

package task_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// childKind names, in the environment of a child of TestOutOfDescriptors, the runtime that it serves with.
const childKind = "TASK_TEST_RUNTIME"

// TestOutOfDescriptors lets a child process run out of them: it closes the connections that it cannot keep, and serves again
// when others have gone.
func TestOutOfDescriptors(t *testing.T) {
	if kind := os.Getenv(childKind); kind != "" {
		serveWithFewDescriptors(t, kind)
		return
	}
	for _, kind := range []string{"loops", "goroutines"} {
		t.Run(kind, func(t *testing.T) {
			child := exec.Command(os.Args[0], "-test.run=^TestOutOfDescriptors$", "-test.timeout=30s")
			child.Env = append(os.Environ(), childKind+"="+kind)
			child.Stderr = t.Output()
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer child.Wait()
			defer in.Close()
			lines := bufio.NewReader(out)
			address, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			overload(t, strings.TrimSpace(address))
			in.Close()
			if got, _ := lines.ReadString('\n'); got != "shed\n" {
				t.Errorf("child says %q, want that it has shed", got)
			}
		})
	}
}

// overload makes more connections than the child can keep, then closes all, and expects to be served.
func overload(t *testing.T, address string) {
	t.Helper()
	var kept []net.Conn
	refused := 0
	for i := 0; i < 200 && refused < 10; i++ {
		nc, ok := exchange(t, address)
		if ok {
			kept = append(kept, nc)
		} else {
			refused++
			nc.Close()
		}
	}
	if len(kept) == 0 || refused < 10 {
		t.Errorf("%d served, %d closed, want some, 10", len(kept), refused)
	}
	for _, nc := range kept {
		nc.Close()
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		nc, ok := exchange(t, address)
		nc.Close()
		if ok {
			return
		}
	}
	t.Error("not served again")
}

// exchange reports whether a fresh connection is served. It fails the test if it is neither that nor closed.
func exchange(t *testing.T, address string) (net.Conn, bool) {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(nc, "hello")
	_, err = io.ReadFull(nc, make([]byte, 5))
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Error("neither served nor closed")
	}
	return nc, err == nil
}

// serveWithFewDescriptors is the child. It ends with its input.
func serveWithFewDescriptors(t *testing.T, kind string) {
	rt := task.Runtime(task.NewGoroutines(task.Config{Loops: 2}))
	if kind == "loops" {
		var err error
		if rt, err = task.New(task.Config{Loops: 2}); err != nil {
			t.Fatal(err)
		}
	}
	l := listen(t, rt, task.ServeOptions{Serve: echoOnce})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- rt.Run(ctx) }()
	time.Sleep(50 * time.Millisecond) // all the runtime's own descriptors are open
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 60, Max: 60}); err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr())
	io.Copy(io.Discard, os.Stdin)
	proxytest.Eventually(t, "connections are gone", func() bool { return rt.Stats().Conns == 0 })
	if rt.Stats().Shed > 0 {
		fmt.Println("shed")
	}
	cancel()
	<-done
}
