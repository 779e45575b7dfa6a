package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
)

// dialStream connects and lets ctx end the connection.
func dialStream(ctx context.Context, addr string) (*net.TCPConn, func(), error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	return c.(*net.TCPConn), func() { stop(); _ = c.Close() }, nil
}

// lines sends lines, wants each back, then finishes sending and wants the count: the half-close must have arrived.
func (d *driver) lines(ctx context.Context) error {
	c, closeConn, err := dialStream(ctx, d.t.Lines)
	if err != nil {
		return err
	}
	defer closeConn()
	return talkLines(c, bufio.NewReader(c))
}

// talkLines is the client's side of echoLines.
func talkLines(c *net.TCPConn, in *bufio.Reader) error {
	n := 1 + rand.IntN(10)
	for i := range n {
		want := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", rand.IntN(2000)))
		if _, err := io.WriteString(c, want); err != nil {
			return err
		}
		got, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the echo of line %d: %w", i+1, err)
		}
		if got != want {
			return fmt.Errorf("the echo of line %d is another line, of %d bytes instead of %d", i+1, len(got), len(want))
		}
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	return wantRest(in, fmt.Sprintf("that was all: %d\n", n))
}

// banner says nothing until it was greeted.
func (d *driver) banner(ctx context.Context) error {
	c, closeConn, err := dialStream(ctx, d.t.Banner)
	if err != nil {
		return err
	}
	defer closeConn()
	in := bufio.NewReader(c)
	for _, turn := range []struct{ say, hear string }{{"", bannerLine}, {"NOOP\r\n", "250 still here\r\n"}} {
		if _, err := io.WriteString(c, turn.say); err != nil {
			return err
		}
		got, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("after %q, waiting for %q: %w", turn.say, turn.hear, err)
		}
		if got != turn.hear {
			return fmt.Errorf("after %q: got %q, want %q", turn.say, got, turn.hear)
		}
	}
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		return err
	}
	return wantRest(in, "221 goodbye\r\n")
}

// wantRest expects these bytes and then the end.
func wantRest(r io.Reader, want string) error {
	got, err := io.ReadAll(r)
	if err != nil || string(got) != want {
		return fmt.Errorf("at the end: got %q and %v, want %q and the end", got, err, want)
	}
	return nil
}
