package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// ledger returns one of the ways to the ledger.
func (d *driver) ledger() *rpcClient { return d.ledgers[rand.IntN(len(d.ledgers))] }

// unary looks up an order, or one that does not exist; status, message, header and trailer metadata must all arrive.
func (d *driver) unary(ctx context.Context) error {
	n := rand.IntN(1000)
	if rand.IntN(5) == 0 {
		n = -n - 1
	}
	c, err := d.ledger().call(ctx, lookupMethod)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.send([]byte(strconv.Itoa(n))); err != nil {
		return err
	}
	c.closeSend()
	out, err := c.only()
	switch {
	case n < 0 && (codeOf(err) != codeNotFound || messageOf(err) != noOrder(n)):
		return fmt.Errorf("lookup %d: got %v, want NOT_FOUND", n, err)
	case n >= 0 && err != nil:
		return err
	case n >= 0 && string(out) != itemOf(n):
		return fmt.Errorf("lookup %d: got %q, want %q", n, out, itemOf(n))
	case strings.Join(c.last().Values("Looked-Up"), ",") != strconv.Itoa(n):
		return fmt.Errorf("lookup %d: trailer metadata is %v", n, c.last())
	case c.trailersOnly() != (n < 0):
		return fmt.Errorf("lookup %d: an answer of trailers only: got %v, want %v", n, c.trailersOnly(), n < 0)
	}
	return d.checkCaller(orders, strings.Join(c.header().Values("Caller"), ","), web)
}

// clientStream sends numbers and gets their sum.
func (d *driver) clientStream(ctx context.Context) error {
	c, err := d.ledger().call(ctx, sumMethod)
	if err != nil {
		return err
	}
	defer c.close()
	want := 0
	for range 1 + rand.IntN(50) {
		n := rand.IntN(1000)
		want += n
		if err := c.send([]byte(strconv.Itoa(n))); err != nil {
			return err
		}
	}
	c.closeSend()
	out, err := c.only()
	if err != nil {
		return err
	}
	if string(out) != strconv.Itoa(want) {
		return fmt.Errorf("sum: got %s, want %d", out, want)
	}
	return nil
}

// serverStream asks for messages and wants all of them, in order, and then the end.
func (d *driver) serverStream(ctx context.Context) error {
	c, err := d.ledger().call(ctx, countMethod)
	if err != nil {
		return err
	}
	defer c.close()
	n := rand.IntN(60)
	if err := c.send([]byte(strconv.Itoa(n))); err != nil {
		return err
	}
	c.closeSend()
	for i := range n {
		out, err := c.recv()
		if err != nil {
			return fmt.Errorf("message %d of %d: %w", i+1, n, err)
		}
		if string(out) != string(countMessage(i)) {
			return fmt.Errorf("message %d of %d is another one", i+1, n)
		}
	}
	return c.wantEnd()
}

// bidi talks: each message must be answered before the next is sent.
func (d *driver) bidi(ctx context.Context) error {
	c, err := d.ledger().call(ctx, talkMethod)
	if err != nil {
		return err
	}
	defer c.close()
	for i := range 5 {
		msg := fmt.Appendf(nil, "hello %d %s", i, itemOf(i))
		if err := c.send(msg); err != nil {
			return err
		}
		out, err := c.recv()
		if err != nil {
			return fmt.Errorf("answer %d: %w", i+1, err)
		}
		if want := strings.ToUpper(string(msg)); string(out) != want {
			return fmt.Errorf("answer %d: got %q, want %q", i+1, out, want)
		}
	}
	c.closeSend()
	return c.wantEnd()
}
