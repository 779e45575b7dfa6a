package main

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

func TestSocketPermissions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	for _, c := range []config.Socket{{}, {Mode: 0o600}, {Mode: 0o666}, {Mode: 0o660, Owner: uid, Group: gid}} {
		ln, err := listenSocket(path, c)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|fs.FileMode(c.Mode) {
			t.Errorf("%+v: %v, %v, want a socket with that mode", c, info.Mode(), err)
		}
		client, err := net.Dial("unix", path)
		if err == nil {
			client.Close()
		}
		if err != nil && (c.Mode&0o200 != 0 || os.Getuid() == 0) {
			t.Errorf("%+v: %v", c, err)
		}
		ln.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%+v: the socket is still there after its listener was closed", c)
		}
	}
}

func TestSocketOfNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for want, c := range map[string]config.Socket{
		"socket.owner: user: unknown user no-such-user":    {Owner: "no-such-user"},
		"socket.group: group: unknown group no-such-group": {Group: "no-such-group"},
	} {
		ln, err := listenSocket(path, c)
		if err == nil {
			ln.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%+v: a socket was left behind", c)
		}
	}
}

// leaveStale leaves a socket on which nobody listens.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	leaveStale(t, path)
	ln, err := listenSocket(path, config.Socket{Mode: 0o600})
	if err != nil {
		t.Fatalf("a socket that nobody serves is in the way: %v", err)
	}
	if again, err := listenSocket(path, config.Socket{Mode: 0o600}); err == nil {
		again.Close()
		t.Error("a socket that somebody serves was taken over")
	}
	ln.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path, config.Socket{}); err == nil {
		t.Error("a file that is no socket was removed")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	leaveStale(t, path+"2")
	if err := os.Symlink(path+"2", path); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path, config.Socket{}); err == nil {
		t.Error("a link to a socket was replaced")
	}
}

// TestStaleSocketIsTakenOnce: of many who find it at the same time one gets it, and keeps it.
func TestStaleSocketIsTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		leaveStale(t, path)
		var got atomic.Pointer[net.Listener]
		var winners atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if ln, err := listenSocket(path, config.Socket{Mode: 0o600}); err == nil {
					winners.Add(1)
					got.Store(&ln)
				}
			})
		}
		all.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d have it, want 1", n)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("whoever has it does not get its clients: %v", err)
		}
		c.Close()
		(*got.Load()).Close()
	}
}
