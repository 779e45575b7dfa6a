package http2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// noBatch is a Batch that flushes nothing.
type noBatch struct{}

func (noBatch) Kick() {}

// A block becomes frames of which all but the last are as long as the peer allows, whatever room the buffer has, and what is before it stays.
// RFC 9113 section 6.10: "Any number of CONTINUATION frames can be sent, as long as the preceding frame is on the same stream and is a HEADERS,
// PUSH_PROMISE, or CONTINUATION frame without the END_HEADERS flag set."
func TestEndBlockSplits(t *testing.T) {
	const most, before = 100, "what was there"
	for size := range 5*most + 2 {
		for _, spare := range []int{0, 1, frameHeaderLen, 1000} {
			block := make([]byte, size)
			for i := range block {
				block[i] = byte(i*7 + i>>8)
			}
			c := &Conn{maxFrame: most, batch: noBatch{}}
			c.out = make([]byte, 0, len(before)+frameHeaderLen+size+spare)
			c.out = append(c.out, before...)
			at := len(c.out)
			c.out = appendFrameHeader(c.out, 0, frameHeaders, flagEndStream|flagEndHeaders, 5)
			c.out = append(c.out, block...)
			c.endBlock(at)
			got, rest := joined(t, c.out[at:], most)
			if string(c.out[:at]) != before || len(rest) != 0 || !bytes.Equal(got, block) {
				t.Fatalf("block of %d bytes, room for %d more: got another one of %d, %d bytes behind it, %q before it", size, spare, len(got), len(rest), c.out[:at])
			}
		}
	}
}

// joined reads the frames of one block, and returns the block and what follows.
func joined(t *testing.T, b []byte, most int) (block, rest []byte) {
	t.Helper()
	for n := 0; ; n++ {
		if len(b) < frameHeaderLen {
			t.Fatalf("frame %d: %d bytes, want a header", n, len(b))
		}
		h := parseFrameHeader(b)
		typ, flags := frameContinuation, uint8(0)
		if n == 0 {
			typ, flags = frameHeaders, flagEndStream
		}
		last := h.flags&flagEndHeaders != 0
		if h.typ != typ || h.flags&^flagEndHeaders != flags || h.id != 5 || h.length > most || !last && h.length != most {
			t.Fatalf("frame %d: got %+v", n, h)
		}
		if n > 0 && h.length == 0 {
			t.Fatalf("frame %d is empty", n)
		}
		b = b[frameHeaderLen:]
		block = append(block, b[:h.length]...)
		b = b[h.length:]
		if last {
			return block, b
		}
	}
}

// Heads around the sizes of frames and buffers arrive whole, in both directions, and leave no buffer behind.
func TestLongHeads(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		l := newLink(t, s, Config{Handler: handler(echo), MaxHead: 256 << 10}, Config{MaxHead: 256 << 10})
		defer l.close()
		l.do(func() {
			for _, around := range []int{16384, 2 * 16384, 3 * 16384, 64 << 10} {
				for _, n := range []int{around - 300, around - frameHeaderLen, around - 1, around, around + 1, around + 300} {
					path := "/" + fmt.Sprint(n) + strings.Repeat("\x7e", n) // a byte that Huffman's code would lengthen
					var resp proxy.Response
					if err := l.client.RoundTrip(get(path), &resp); err != nil {
						t.Errorf("a path of %d bytes: %v", len(path), err)
						return
					}
					if got := resp.Fields.Get("x-path"); got != path {
						t.Errorf("a path of %d bytes: got one of %d", len(path), len(got))
					}
					readAll(resp.Body)
					resp.Close()
				}
			}
		})
		proxytest.Eventually(t, "no buffers", func() bool { return rt.Stats().Buffers == 0 })
	})
}

// What a decoder needs for a long block it keeps for the next, and not much longer.
func TestDecoderKeepsWhatLongBlocksNeed(t *testing.T) {
	var d headDecoder
	d.init(64 << 10)
	block := func(n int) {
		t.Helper()
		d.begin()
		b := appendLiteral(nil, "x", strings.Repeat("a", n))
		for _, part := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
			if err := d.write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.finish(); err != nil {
			t.Fatal(err)
		}
	}
	block(40_000)
	if cap(d.saved) < 20_000 {
		t.Fatalf("after a block of 40,000 bytes in two pieces %d are kept", cap(d.saved))
	}
	if n := testing.AllocsPerRun(20, func() { block(40_000) }); n > 4 {
		t.Errorf("%v allocations for such a block, want the test's own three and the value", n)
	}
	for range keptFor + 2 {
		d.begin()
		if err := d.write([]byte{0x82}); err != nil {
			t.Fatal(err)
		}
	}
	if cap(d.saved) > keptSaved {
		t.Errorf("after %d short blocks %d bytes are kept", keptFor, cap(d.saved))
	}
	block(40_000)
	d.begin()
	if d.slim(); cap(d.saved) > keptSaved {
		t.Errorf("a slim decoder keeps %d bytes", cap(d.saved))
	}
	d.begin()
	b := appendLiteral(nil, "x", strings.Repeat("a", 40_000))
	if err := d.write(b[:30_000]); err != nil {
		t.Fatal(err)
	}
	d.slim() // within a block
	if err := d.write(b[30_000:]); err != nil || d.finish() != nil {
		t.Errorf("a block is lost as memory is given back: %v", err)
	}
}

// appendLiteral appends a pair without Huffman's code and without a place in the table.
func appendLiteral(b []byte, name, value string) []byte {
	for i, s := range []string{name, value} {
		if i == 0 {
			b = append(b, 0)
		}
		if n := len(s); n < 127 {
			b = append(b, byte(n))
		} else {
			b = append(b, 127)
			for n -= 127; n >= 128; n >>= 7 {
				b = append(b, byte(n)|128)
			}
			b = append(b, byte(n))
		}
		b = append(b, s...)
	}
	return b
}
