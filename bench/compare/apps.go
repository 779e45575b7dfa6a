package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pillion-proxy/pillion/bench/app"
)

// apps are those that run, each started when it is first asked for.
type apps struct {
	addrs map[appKind]string
	close []func()
}

// addr returns where the app listens, host:port or unix:/path.
func (a *apps) addr(kind appKind) (string, error) {
	if addr, ok := a.addrs[kind]; ok {
		return addr, nil
	}
	if a.addrs == nil {
		a.addrs = map[appKind]string{}
	}
	var err error
	switch kind {
	case small:
		var s *app.Small
		if s, err = app.NewSmall(answerSize); err == nil {
			a.addrs[kind], a.close = s.Addr.String(), append(a.close, s.Close)
		}
	case kept:
		var s *app.Small
		if s, err = app.NewSmallFresh(answerSize); err == nil {
			a.addrs[kind], a.close = s.Addr.String(), append(a.close, s.Close)
		}
	case datagrams:
		var s *app.UDP
		if s, err = app.NewUDPEcho(); err == nil {
			a.addrs[kind], a.close = s.Addr.String(), append(a.close, s.Close)
		}
	case file:
		a.addrs[kind], err = a.smallUnix()
	default:
		var s *app.Server
		if s, err = newApp(kind); err == nil {
			a.addrs[kind], a.close = s.Addr.String(), append(a.close, s.Close)
		}
	}
	if err != nil {
		return "", fmt.Errorf("the app %q: %w", kind, err)
	}
	return a.addrs[kind], nil
}

// smallUnix starts the small app on a Unix socket that everybody may use: some peers' workers give up root's rights.
func (a *apps) smallUnix() (string, error) {
	dir, err := os.MkdirTemp("", "pillion-app-")
	if err != nil {
		return "", err
	}
	a.close = append(a.close, func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "app")
	s, err := app.NewSmallUnix(path, answerSize)
	if err != nil {
		return "", err
	}
	a.close = append(a.close, s.Close)
	return "unix:" + path, errors.Join(os.Chmod(dir, 0o711), os.Chmod(path, 0o666))
}

func newApp(kind appKind) (*app.Server, error) {
	switch kind {
	case bulk:
		return app.NewBulk()
	case h2c:
		return app.NewH2C(answerSize)
	case socket:
		return app.NewWebSocket()
	case echo:
		return app.NewEcho()
	default:
		return app.NewSource()
	}
}

// stop ends all apps.
func (a *apps) stop() {
	for _, f := range a.close {
		f()
	}
}
