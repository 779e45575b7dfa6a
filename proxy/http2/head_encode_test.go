package http2

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
	"golang.org/x/net/http2/hpack"
)

// TestEncoderTableAgreesWithDecoder sends blocks of recurring and changing pairs, with table sizes that change between
// them, and has x/net's decoder, which keeps the table that the peer would, read them.
func TestEncoderTableAgreesWithDecoder(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var out []byte
		var e headEncoder
		e.init(&out)
		var got []hpack.HeaderField
		dec := hpack.NewDecoder(defaultHeaderTableSize, func(f hpack.HeaderField) { got = append(got, f) })
		for block := range 300 {
			if rnd.IntN(20) == 0 {
				for range 1 + rnd.IntN(3) {
					n := uint32(rnd.IntN(3 * defaultHeaderTableSize / 2))
					dec.SetAllowedMaxDynamicTableSize(max(n, maxEncoderTable))
					e.setTableSize(n)
				}
			}
			var want []hpack.HeaderField
			out = out[:0]
			e.begin()
			e.method("PUT")
			want = append(want, hpack.HeaderField{Name: ":method", Value: "PUT"})
			for range rnd.IntN(30) {
				name := fmt.Sprint("Name-", rnd.IntN(40))
				if rnd.IntN(4) == 0 {
					name = []string{"content-type", "authorization", "server"}[rnd.IntN(3)]
				}
				value := strings.Repeat(fmt.Sprint(rnd.IntN(3)), rnd.IntN(300))
				want = append(want, hpack.HeaderField{Name: name, Value: value, Sensitive: name == "authorization"})
				e.field(string([]byte(name)), string([]byte(value)))
			}
			if took := rnd.IntN(2000); took%2 == 0 {
				e.took(time.Duration(took)*time.Microsecond, time.Microsecond)
				want = append(want, hpack.HeaderField{Name: proxy.TookField, Value: fmt.Sprintf("%d;1", took)})
			}
			got = nil
			if _, err := dec.Write(out); err != nil {
				t.Fatalf("seed %d, block %d: %v", seed, block, err)
			}
			if err := dec.Close(); err != nil {
				t.Fatalf("seed %d, block %d: %v", seed, block, err)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, block %d:\ngot  %v\nwant %v", seed, block, got, want)
			}
		}
	}
}

// RFC 7541 section 6.1: what recurs is one byte or two; what a secret is never enters the table.
func TestEncoderIndexesWhatRecurs(t *testing.T) {
	var out []byte
	var e headEncoder
	e.init(&out)
	size := func(name, value string) int {
		out = out[:0]
		e.field(name, value)
		return len(out)
	}
	for i, want := range []bool{false, false, true, true} {
		if n := size("X-Thing", "some value"); (n == 1) != want {
			t.Errorf("time %d: %d bytes, indexed: want %v", i+1, n, want)
		}
	}
	for range 4 {
		if n := size("Authorization", "Bearer 0123456789"); n < 10 || out[0] != 0x10 {
			t.Errorf("a secret took %d bytes and began with %#x, want a literal never indexed", n, out[0])
		}
	}
	if n := testing.AllocsPerRun(100, func() { size("X-Thing", "some value"); size("content-length", "10") }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// However its seed puts them together, pairs that share a set all come into the table.
func TestEncoderIndexesWhatSharesASet(t *testing.T) {
	for range 5000 {
		var out []byte
		var e headEncoder
		e.init(&out)
		for range 20 {
			out = out[:0]
			e.begin()
			for _, name := range []string{"accept", "user-agent", "x-kind", "content-type", "server"} {
				e.field(name, "steady")
			}
		}
		if len(out) != 5 && !crowded(e.memory) {
			t.Fatalf("%d bytes for five pairs that recur", len(out))
		}
	}
}

// crowded reports whether some set is full, so that one more pair may have no place.
func crowded(m *headMemory) bool {
	for set := range slices.Chunk(m.hot[:], ways) {
		if !slices.ContainsFunc(set, func(p hotPair) bool { return p.hash == 0 }) {
			return true
		}
	}
	return false
}

func BenchmarkEncodeRecurring(b *testing.B) {
	var out []byte
	var e headEncoder
	e.init(&out)
	b.ReportAllocs()
	for b.Loop() {
		out = out[:0]
		for range 10 {
			e.field("X-Thing", "some value")
		}
	}
}

// written collects what head.Encoder writes, for which every pair is new.
type written []hpack.HeaderField

func (w *written) Field(name, value string) {
	*w = append(*w, hpack.HeaderField{Name: strings.Clone(name), Value: strings.Clone(value)})
}

// TestRecurringFieldsKeepTheirRules: a pair that was written as the message before allowed it is held against this one's rules.
func TestRecurringFieldsKeepTheirRules(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		c := &Conn{pillion: seed%2 == 0}
		c.enc.init(&c.out)
		dec := hpack.NewDecoder(defaultHeaderTableSize, nil)
		one := func(s ...string) string { return s[rnd.IntN(len(s))] }
		for range 300 {
			req := proxy.Request{Method: one("GET", "GET", "POST", "CONNECT"), Scheme: "http", Authority: one("a", "a", "b"), Path: "/", Expect: rnd.IntN(3) == 0, Length: int64(rnd.IntN(3))}
			if rnd.IntN(8) == 0 {
				req.Upgrade = "websocket"
			}
			resp := proxy.Response{Length: int64(rnd.IntN(4)) - 1, Reason: one("", "Fine")}
			var fields proxy.Fields
			for range rnd.IntN(6) {
				fields.Add(one("host", "Host", "Content-Length", "content-length", "accept", "Server", "te", "Expect", "cookie", "connection", "sec-websocket-key",
					"Sec-WebSocket-Accept", "x-other"), one("a", "b", "1", "1", "01", "trailers", "100-continue"))
			}
			req.Fields, resp.Fields = fields, fields
			var want written
			plain := head.Encoder{W: &want, Verbatim: c.pillion}
			c.out = c.out[:0]
			c.enc.begin()
			if rnd.IntN(2) == 0 {
				plain.Request(&req)
				c.encodeRequest(&req)
			} else {
				plain.Response(&req, &resp, 200)
				c.encodeResponse(&req, &resp, 200)
			}
			got, err := dec.DecodeFull(c.out)
			for i := range got {
				got[i].Sensitive = false
			}
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d: %v\ngot  %v\nwant %v", seed, err, got, want)
			}
		}
	}
}
