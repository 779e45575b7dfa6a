package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// listenSocket binds a Unix socket on which nobody can connect until its owner and its permissions are as c says. A socket that a process which is
// gone has left behind is replaced.
func listenSocket(path string, c config.Socket) (net.Listener, error) {
	uid, gid, err := ownership(c)
	if err != nil {
		return nil, err
	}
	unlock := lockFolder(filepath.Dir(path))
	defer unlock()
	removeStale(path)
	ln, err := listenPrivate(path)
	if err != nil {
		return nil, err
	}
	if uid >= 0 || gid >= 0 {
		err = os.Lchown(path, uid, gid)
	}
	if err == nil {
		err = os.Chmod(path, os.FileMode(c.Mode))
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// listenPrivate binds with no permissions for anybody.
func listenPrivate(path string) (net.Listener, error) {
	var failed error
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		err := c.Control(func(fd uintptr) { failed = noPermissions(int(fd)) })
		return errors.Join(err, failed)
	}}
	return lc.Listen(context.Background(), "unix", path)
}

// ownership turns names into numbers; -1 leaves as it is.
func ownership(c config.Socket) (uid, gid int, err error) {
	if uid, err = userID(c); err != nil {
		return -1, -1, fmt.Errorf("socket.owner: %w", err)
	}
	if gid, err = groupID(c); err != nil {
		return -1, -1, fmt.Errorf("socket.group: %w", err)
	}
	return uid, gid, nil
}

func userID(c config.Socket) (int, error) {
	return number(c.Owner, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
}

func groupID(c config.Socket) (int, error) {
	return number(c.Group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
}

// number returns the number that name is, or has; -1 of no name.
func number(name string, lookup func(string) (string, error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	text, err := lookup(name)
	if err != nil {
		return -1, err
	}
	return strconv.Atoi(text)
}

// lockFolder keeps other pillions out until the returned function is called: of two that find the same stale socket, the second must not
// remove what the first has just bound. Who holds the lock does so for a moment: where it cannot be had, nobody of ours has it.
func lockFolder(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	for range 200 {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != unix.EWOULDBLOCK {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return func() { f.Close() } // and with it the lock
}

// removeStale removes a socket that a process which is gone has left behind: one that refuses connections. Where it is not certain that nobody
// listens the bind will say so.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path)
	}
}
