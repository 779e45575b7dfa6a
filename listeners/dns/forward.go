package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
)

const (
	// maxSame is how many queries with the same question, each written differently, are passed on at a time. More are a loop: some server that
	// we ask asks us.
	maxSame = 8
	// tryTimeout bounds one attempt, where resolv.conf does not say less, and passTimeout all of them.
	tryTimeout  = 3 * time.Second
	passTimeout = 8 * time.Second
	// confTimeout is how long what resolv.conf said is believed.
	confTimeout = time.Second
)

// forwarder asks other name servers.
type forwarder struct {
	cfg Config

	mu    sync.Mutex
	calls map[string]*call // in flight, by network and query without its ID
	same  map[string]int   // in flight, by question
	conf  resolvconf.Conf
	read  time.Time // when conf was; zero before
	told  bool      // that there is nobody to ask
}

// call is one query in flight, for all who ask the same.
type call struct {
	done   chan struct{}
	answer []byte // with the ID of no one; valid once done is closed
	err    error
}

func newForwarder(c Config) *forwarder {
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.DialContext == nil {
		c.DialContext = new(net.Dialer).DialContext
	}
	return &forwarder{cfg: c, calls: make(map[string]*call), same: make(map[string]int)}
}

var (
	errNobody = errors.New("there is no name server to ask but this listener; name one in outbound.dns_forward")
	errLoop   = errors.New("the question is being asked already: a name server that is asked here asks here")
	errNotOur = errors.New("the packet answers another question")
)

// servers are those that may be asked, and how.
func (f *forwarder) servers() ([]netip.AddrPort, resolvconf.Conf) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); f.read.IsZero() || now.Sub(f.read) > confTimeout {
		f.conf, f.read = resolvconf.Read(f.cfg.ResolvConf), now
	}
	rc := f.conf
	if len(f.cfg.Forward) > 0 {
		rc.Servers = f.cfg.Forward
	}
	servers := slices.DeleteFunc(slices.Clone(rc.Order()), func(a netip.AddrPort) bool { return f.cfg.Own != nil && f.cfg.Own(a) })
	if len(servers) == 0 && !f.told {
		f.cfg.Logger.Warn("DNS questions about other names fail", "why", errNobody)
	}
	f.told = len(servers) == 0
	return servers, rc
}

// ask returns the answer to q, with q's ID. Who asks the same at the same time shares it.
func (f *forwarder) ask(ctx context.Context, q *query, network string) ([]byte, error) {
	if len(q.raw) < headSize {
		return nil, errNotOur // cannot be: it was parsed
	}
	key := network + string(q.raw[2:])
	question := strings.ToLower(q.q.Name.String()) + q.q.Type.String() + network
	f.mu.Lock()
	c := f.calls[key]
	switch {
	case c != nil:
		f.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case f.same[question] >= maxSame:
		f.mu.Unlock()
		return nil, errLoop
	default:
		c = &call{done: make(chan struct{})}
		f.calls[key] = c
		f.same[question]++
		f.mu.Unlock()
		f.carryOut(ctx, c, q, network, key, question)
	}
	if c.err != nil {
		return nil, c.err
	}
	answer := slices.Clone(c.answer)
	binary.BigEndian.PutUint16(answer, q.head.ID)
	return answer, nil
}

// carryOut asks, and tells all who wait.
func (f *forwarder) carryOut(ctx context.Context, c *call, q *query, network, key, question string) {
	c.err = errNobody
	defer func() {
		f.mu.Lock()
		delete(f.calls, key)
		if f.same[question]--; f.same[question] == 0 {
			delete(f.same, question)
		}
		f.mu.Unlock()
		close(c.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	servers, rc := f.servers()
	for range rc.Attempts {
		for _, server := range servers {
			answer, err := f.exchange(ctx, server, rc, q, network)
			if err == nil {
				c.answer, c.err = answer, nil
				if !refuses(answer) {
					return
				}
				continue // another may know better; if none does, this is the answer
			}
			if c.answer == nil {
				c.err = fmt.Errorf("ask %v: %w", server, err)
			}
			if ctx.Err() != nil {
				return
			}
		}
		if c.answer != nil {
			return
		}
	}
}

// refuses reports whether the server could not, or would not, tell.
func refuses(answer []byte) bool {
	switch dnsmessage.RCode(answer[3] & 0xf) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused, dnsmessage.RCodeNotImplemented:
		return true
	}
	return false
}

// exchange asks one server: over UDP first, and over TCP where the client can take a long answer.
func (f *forwarder) exchange(ctx context.Context, server netip.AddrPort, rc resolvconf.Conf, q *query, network string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, min(rc.Timeout, tryTimeout))
	defer cancel()
	if rc.TCP {
		return f.askOver(ctx, "tcp", server, q)
	}
	answer, err := f.askOver(ctx, "udp", server, q)
	if err == nil && network == "tcp" && answer[2]&truncatedBit != 0 {
		return f.askOver(ctx, "tcp", server, q)
	}
	return answer, err
}

const truncatedBit = 0x02 // of byte 2, RFC 1035 section 4.1.1

// askOver sends the query with an ID of its own from a port of its own, and waits for what answers it.
func (f *forwarder) askOver(ctx context.Context, network string, server netip.AddrPort, q *query) ([]byte, error) {
	c, err := f.cfg.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	id := uint16(rand.Uint32())
	raw := slices.Clone(q.raw)
	binary.BigEndian.PutUint16(raw, id)
	if network == "tcp" {
		if err := writeMessage(c, raw); err != nil {
			return nil, err
		}
		answer, err := readMessage(c)
		if err == nil && !answers(answer, id, q) {
			err = errNotOur
		}
		return answer, err
	}
	if _, err := c.Write(raw); err != nil {
		return nil, err
	}
	const most = 1000 // packets; anybody can send them
	buf := make([]byte, max(q.size, ourSize)+1)
	for range most {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], id, q) {
			if n == len(buf) { // the rest of it is lost
				buf[2] |= truncatedBit
			}
			return slices.Clone(buf[:n]), nil
		}
	}
	return nil, errNotOur
}

// answers reports whether msg is an answer to q, as which it had id. Servers that do not understand a query may answer without its question.
func answers(msg []byte, id uint16, q *query) bool {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != id || !h.Response {
		return false
	}
	got, err := p.Question()
	if err == dnsmessage.ErrSectionDone {
		return h.RCode != dnsmessage.RCodeSuccess
	}
	return err == nil && got.Type == q.q.Type && got.Class == q.q.Class && strings.EqualFold(got.Name.String(), q.q.Name.String())
}
