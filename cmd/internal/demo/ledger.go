package demo

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The methods of the ledger, one for each kind of call that gRPC has. Messages are bytes, so that no generated code is needed.
const (
	lookupMethod = "/demo.Ledger/Lookup" // unary: a number becomes its item; a negative one, NOT_FOUND
	sumMethod    = "/demo.Ledger/Sum"    // client stream: numbers become their sum
	countMethod  = "/demo.Ledger/Count"  // server stream: n becomes 0 … n-1
	talkMethod   = "/demo.Ledger/Talk"   // both: each message is answered in capitals before the next is sent
)

// countPad is what each message of Count weighs, so that a stream passes a flow control window now and then.
const countPad = 4 << 10 // bytes

// newLedger returns the gRPC side of orders.
func newLedger() rpcHandler {
	return rpcHandler{lookupMethod: lookup, sumMethod: sum, countMethod: count, talkMethod: talk}
}

// noOrder is the message of NOT_FOUND. It has characters that a field cannot carry as they are.
func noOrder(n int) string { return fmt.Sprintf("no order %d, with 100 %% certainty – sorry", n) }

// lookup also tells the caller, in metadata, who the sidecar said it was.
func lookup(c *serverCall) error {
	n, err := c.number()
	if err != nil {
		return err
	}
	c.header().Set("Caller", strings.Join(c.r.Header.Values("X-Pillion-Identity"), ","))
	c.trailer.Set("Looked-Up", strconv.Itoa(n))
	if n < 0 {
		return &rpcError{codeNotFound, noOrder(n)}
	}
	return c.send([]byte(itemOf(n)))
}

func sum(c *serverCall) error {
	total := 0
	for {
		in, err := c.recv()
		if errors.Is(err, io.EOF) {
			return c.send([]byte(strconv.Itoa(total)))
		}
		if err != nil {
			return err
		}
		n, err := asNumber(in)
		if err != nil {
			return err
		}
		total += n
	}
}

func count(c *serverCall) error {
	n, err := c.number()
	if err != nil {
		return err
	}
	for i := range n {
		if err := c.send(countMessage(i)); err != nil {
			return err
		}
	}
	return nil
}

func countMessage(i int) []byte { return fmt.Appendf(nil, "%0*d", countPad, i) }

func talk(c *serverCall) error {
	for {
		in, err := c.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.send([]byte(strings.ToUpper(string(in)))); err != nil {
			return err
		}
	}
}
