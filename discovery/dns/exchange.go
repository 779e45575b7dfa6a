package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pillion-proxy/pillion/discovery/dns/resolvconf"
)

// exchange asks one server one question: over UDP, and over TCP if the answer does not fit.
func (r *Resolver) exchange(ctx context.Context, server netip.AddrPort, rc resolvconf.Conf, q dnsmessage.Question) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, rc.Timeout)
	defer cancel()
	network := "udp"
	if rc.TCP {
		network = "tcp"
	}
	how := withEDNS
	a, err := r.ask(ctx, network, server, q, how)
	if errors.Is(err, errNoEDNS) {
		how = plain
		a, err = r.ask(ctx, network, server, q, how)
	}
	if err == nil && a.truncated && network == "udp" {
		a, err = r.ask(ctx, "tcp", server, q, how)
	}
	return a, explain(err, rc.Timeout)
}

// explain makes errors of package net short, and the same each time: they name the port that we asked from.
func explain(err error, timeout time.Duration) error {
	var t net.Error
	if errors.As(err, &t) && t.Timeout() {
		return fmt.Errorf("no answer within %v", timeout)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// ask sends one query and waits for its answer.
func (r *Resolver) ask(ctx context.Context, network string, server netip.AddrPort, q dnsmessage.Question, style style) (answer, error) {
	id := uint16(rand.Uint32())
	query, err := pack(id, q, style)
	if err != nil {
		return answer{}, err
	}
	c, err := r.conf.DialContext(ctx, network, server.String())
	if err != nil {
		return answer{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		return askTCP(c, query, id, q)
	}
	return askUDP(c, query, id, q)
}

// askUDP ignores packets that are no answer to the query: anybody can send them.
func askUDP(c net.Conn, query []byte, id uint16, q dnsmessage.Question) (answer, error) {
	if _, err := c.Write(query); err != nil {
		return answer{}, err
	}
	const most = 1000 // packets
	buf := make([]byte, 4096)
	for range most {
		n, err := c.Read(buf)
		if err != nil {
			return answer{}, err
		}
		if a, err := parse(buf[:n], id, q); !errors.Is(err, errNotOurs) {
			return a, err
		}
	}
	return answer{}, errNotOurs
}

// askTCP: "The message is prefixed with a two byte length field" (RFC 1035 section 4.2.2).
func askTCP(c net.Conn, query []byte, id uint16, q dnsmessage.Question) (answer, error) {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	if _, err := c.Write(append(out, query...)); err != nil {
		return answer{}, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return answer{}, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return answer{}, err
	}
	a, err := parse(buf, id, q)
	if err == nil && a.truncated {
		err = errors.New("the answer is truncated over TCP too")
	}
	return a, err
}
