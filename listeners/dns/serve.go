package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// serveUDP reads questions until the socket is closed.
func (s *Server) serveUDP(ctx context.Context) error {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := s.cfg.UDP.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // of one packet, such as the echo of an answer that nobody took
			if !sleep(ctx, time.Millisecond) {
				return err
			}
			continue
		}
		s.packet(ctx, buf[:n], from)
	}
}

// packet answers one packet, in a goroutine where others are to be asked.
func (s *Server) packet(ctx context.Context, raw []byte, from netip.AddrPort) {
	q, code, ok := parse(raw)
	if !ok {
		return
	}
	answer, pass := s.reply(&q, code)
	if !pass {
		s.send(answer, from)
		return
	}
	select {
	case s.waiting <- struct{}{}:
	default:
		s.failed.Add(1)
		s.send(reply(&q, dnsmessage.RCodeServerFailure, nil), from)
		return
	}
	q.raw = slices.Clone(raw)
	s.running.Go(func() { s.passPacket(ctx, q, from) })
}

func (s *Server) passPacket(ctx context.Context, q query, from netip.AddrPort) {
	defer func() { <-s.waiting }()
	s.send(s.pass(ctx, &q, "udp"), from)
}

// send is as unreliable as the network: an answer that cannot be sent is asked for again.
func (s *Server) send(answer []byte, to netip.AddrPort) {
	if answer != nil {
		_, _ = s.cfg.UDP.WriteToUDPAddrPort(answer, to)
	}
}

// serveTCP accepts connections until the socket is closed.
func (s *Server) serveTCP(ctx context.Context) error {
	for {
		c, err := s.cfg.TCP.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of descriptors
			if !sleep(ctx, 50*time.Millisecond) {
				return err
			}
			continue
		}
		select {
		case s.conns <- struct{}{}:
			s.running.Go(func() { s.serveConn(ctx, c) })
		default:
			c.Close()
		}
	}
}

// serveConn answers the questions of one connection, one after the other.
func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	defer func() { <-s.conns }()
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for ctx.Err() == nil {
		c.SetDeadline(time.Now().Add(idleTimeout))
		raw, err := readMessage(c)
		if err != nil {
			return
		}
		q, code, ok := parse(raw)
		if !ok {
			return
		}
		answer, pass := s.reply(&q, code)
		if pass {
			answer = s.pass(ctx, &q, "tcp")
		}
		c.SetDeadline(time.Now().Add(idleTimeout))
		if answer == nil || writeMessage(c, answer) != nil {
			return
		}
	}
}

// readMessage: "The message is prefixed with a two byte length field" (RFC 1035 section 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// writeMessage writes length and message at once: RFC 7766 section 8.
func writeMessage(w io.Writer, msg []byte) error {
	if len(msg) > 1<<16-1 {
		return errors.New("the message is too long")
	}
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg)))
	_, err := w.Write(append(out, msg...))
	return err
}

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
