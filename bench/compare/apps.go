package main

import (
	"fmt"
	"net/netip"

	"github.com/pillion-proxy/pillion/bench/app"
)

// apps are those that run, each started when it is first asked for.
type apps struct {
	addrs map[appKind]netip.AddrPort
	close []func()
}

// addr returns where the app listens.
func (a *apps) addr(kind appKind) (netip.AddrPort, error) {
	if addr, ok := a.addrs[kind]; ok {
		return addr, nil
	}
	if a.addrs == nil {
		a.addrs = map[appKind]netip.AddrPort{}
	}
	var err error
	switch kind {
	case small:
		var s *app.Small
		if s, err = app.NewSmall(answerSize); err == nil {
			a.addrs[kind], a.close = s.Addr, append(a.close, s.Close)
		}
	case datagrams:
		var s *app.UDP
		if s, err = app.NewUDPEcho(); err == nil {
			a.addrs[kind], a.close = s.Addr, append(a.close, s.Close)
		}
	default:
		var s *app.Server
		if s, err = newApp(kind); err == nil {
			a.addrs[kind], a.close = s.Addr, append(a.close, s.Close)
		}
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("the app %q: %w", kind, err)
	}
	return a.addrs[kind], nil
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
