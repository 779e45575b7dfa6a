package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/pillion-proxy/pillion/bench/meter"
	"github.com/pillion-proxy/pillion/bench/peers"
)

// measureMemory starts a fresh pair for each round and reads its memory after one request, and again with idle connections, each of which has
// carried a request.
func (b *bench) measureMemory(ctx context.Context, s *scenario, rep *scenarioReport) error {
	addr, err := b.apps.addr(s.app)
	if err != nil {
		return err
	}
	for i := range min(b.options.rounds, memoryRounds) {
		for _, p := range b.peers {
			res := rep.result(p.Name)
			if p.Name == "direct" {
				res.Why = "there is no proxy"
				continue
			}
			if why := p.Cannot[s.kind]; why != "" {
				res.Why = why
				continue
			}
			figures, err := b.memoryRound(ctx, func() (*peers.Pair, error) { return b.bed.Start(p, s.kind, addr) })
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				res.fail(err)
				continue
			}
			res.Rounds = append(res.Rounds, figures)
			fmt.Fprintf(b.progress, "%-5s round %d  %-11s  %s\n", s.ID, i+1, p.Name, describe(s, figures))
		}
	}
	rep.finish()
	return nil
}

// memoryRounds is enough: memory hardly varies.
const memoryRounds = 3

func (b *bench) memoryRound(ctx context.Context, start func() (*peers.Pair, error)) (map[string]float64, error) {
	pair, err := start()
	if err != nil {
		return nil, err
	}
	defer pair.Stop()
	first, err := idleConn(ctx, pair)
	if err != nil {
		return nil, err
	}
	defer first.Close()
	time.Sleep(min(b.options.round, settle))
	empty, err := pair.Memory()
	if err != nil {
		return nil, err
	}
	for range b.options.idle {
		c, err := idleConn(ctx, pair)
		if err != nil {
			return nil, err
		}
		defer c.Close()
	}
	time.Sleep(min(b.options.round, settle))
	full, err := pair.Memory()
	if err != nil {
		return nil, err
	}
	return memoryFigures(empty, full, b.options.idle), nil
}

// memoryFigures are the figures of a pair before and after so many idle connections. The goal is that of RSS. A pair that has given back pages of its
// program fetches some again when it is used, which RSS counts as if connections held them; the growth of anonymous memory beside it does not.
func memoryFigures(empty, full meter.Memory, idle int) map[string]float64 {
	perConnection := func(grown int64) float64 { return float64(grown) / (1 << 10) / float64(idle) }
	return map[string]float64{
		"idle_mib":      float64(empty.RSS) / (1 << 20),
		"pss_mib":       float64(empty.PSS) / (1 << 20),
		"conn_kib":      perConnection(full.RSS - empty.RSS),
		"conn_anon_kib": perConnection(full.Own - empty.Own),
	}
}

// idleConn opens a connection and has one request answered on it.
func idleConn(ctx context.Context, pair *peers.Pair) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", pair.Addr)
	if err != nil {
		return nil, err
	}
	if err := ask(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func ask(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %v\r\n\r\n", c.RemoteAddr()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}
