package http3

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/quic-go/quic-go"
)

// bombs are the ends of field sections that are small as they come, and larger than maxBomb once they are decoded.
func bombs(t *testing.T) map[string]string {
	longest := 0
	for i, e := range staticTable[:63] { // what one byte can say
		if l := staticTable[longest]; len(e.name)+len(e.value) > len(l.name)+len(l.value) {
			longest = i
		}
	}
	// RFC 7541 appendix B: five bits of 0 are the character '0'.
	huffman := string(appendPrefixed([]byte{0x23, 'a', '-', 'b'}, 0x80, 7, 5*maxBomb/8)) + strings.Repeat("\x00", 5*maxBomb/8)
	all := map[string]string{
		"one line of the static table, again and again": strings.Repeat(string([]byte{0xc0 | byte(longest)}), 200),
		"lines without a name or a value to speak of":   strings.Repeat("\x21a\x00", maxBomb/33+1), // RFC 9114 section 4.2.2: 32 bytes are added for each
		"Huffman code": huffman,
	}
	for what, b := range all {
		if len(b) >= maxBomb*9/10 {
			t.Errorf("%s: %d bytes are no bomb", what, len(b))
		}
	}
	return all
}

const maxBomb = 4096

// lit appends a bomb to a HEADERS frame with the lines.
func lit(bomb string, lines ...string) []byte {
	h := headers(lines...)
	section := append(h[2:len(h):len(h)], bomb...)
	return append(appendFrameHeader(nil, frameHeaders, int64(len(section))), section...)
}

// TestBombs: a section counts as what it is decoded to, in every place of a message, and the connection lives.
func TestBombs(t *testing.T) {
	for what, bomb := range bombs(t) {
		t.Run(what, func(t *testing.T) {
			goroutines(t, func(t *testing.T, s task.Shard) {
				r := rawPeer(t, s, true, Config{Handler: handler(echo), MaxHead: maxBomb})
				defer r.close()
				r.settings()
				st := r.request(lit(bomb, ":method: GET", ":scheme: https", ":authority: a", ":path: /")...)
				st.Close()
				if got, err := io.ReadAll(st); err != nil || !bytes.Contains(got, []byte("431")) {
					t.Errorf("a request: got %q, %v, want 431", got, err)
				}
				expectReset(t, "trailers", r.request(join(postHead, data("x"), lit(bomb))...), ErrExcessiveLoad)
				st = r.request(getHead...)
				st.Close()
				if got, err := io.ReadAll(st); err != nil || len(got) == 0 {
					t.Errorf("a request after all that: %q, %v", got, err)
				}
			})
			goroutines(t, func(t *testing.T, s task.Shard) {
				r := rawPeer(t, s, false, Config{MaxHead: maxBomb})
				defer r.close()
				r.settings()
				for _, c := range []struct {
					answer []byte
					want   proxy.Code
				}{
					{lit(bomb, ":status: 200"), proxy.AppBadAnswer},
					{lit(bomb, ":status: 103"), proxy.AppBadAnswer},
					{join(headers(":status: 200"), data("x"), lit(bomb)), proxy.PeerReset},
				} {
					done := proxytest.Go(s, func() {
						resp := new(proxy.Response)
						err := r.conn.RoundTrip(get("/"), resp)
						if err == nil {
							_, err = readAll(resp.Body)
							resp.Close()
						}
						var e *proxy.Error
						if !errors.As(err, &e) || e.Code != c.want {
							t.Errorf("an answer: got %v, want %v", err, c.want)
						}
					})
					st := r.accept()
					st.Write(c.answer)
					proxytest.Wait(t, done)
				}
			})
		})
	}
}

// RFC 9297 section 2.1: "If a DATAGRAM frame is received whose Quarter Stream ID field maps to a stream that has not yet been created, the receiver SHALL
// either drop that datagram silently or buffer it temporarily". One of a stream that is over goes the same way, and both are counted.
func TestDatagramsForNobody(t *testing.T) {
	goroutines(t, func(t *testing.T, s task.Shard) {
		stats := new(proxy.FlowStats)
		r := rawPeer(t, s, false, Config{FlowStats: stats})
		defer r.close()
		r.uni(streamControl, frameSettings, 4, settingConnectProtocol, 1, settingDatagram, 1)
		open := func() (*quic.Stream, *proxy.Response) {
			resp := new(proxy.Response)
			done := proxytest.Go(s, func() {
				if err := r.conn.RoundTrip(upgrade(proxy.ConnectUDP), resp); err != nil || resp.Flow == nil {
					t.Errorf("no Flow: %+v, %v", resp, err)
				}
			})
			st := r.accept()
			st.Write(headers(":status: 200", "capsule-protocol: ?1"))
			proxytest.Wait(t, done)
			return st, resp
		}
		_, first := open()
		over, second := open()
		second.Close()
		expectReset(t, "the second Flow", over, ErrRequestCancelled)
		for _, quarter := range []byte{1, 2, 63} { // over; not there yet; never
			if err := r.q.SendDatagram([]byte{quarter, 0, 'x'}); err != nil {
				t.Fatal(err)
			}
		}
		proxytest.Eventually(t, "three are dropped", func() bool { return stats.Counts().Dropped["unopened"] == 3 })
		if err := r.q.SendDatagram([]byte{0, 0, 'y'}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10)
		if n, err := first.Flow.Receive(got); string(got[:n]) != "y" || err != nil {
			t.Errorf("got %q, %v, want the datagram of the first Flow", got[:n], err)
		}
		first.Close()
	})
}
