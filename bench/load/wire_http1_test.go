package load

import (
	"errors"
	"strings"
	"testing"
)

// answers feeds an HTTP/1.1 connection and says what came of one request: "", or why it failed.
func feedHTTP1(pieces ...string) (answered bool, failure error, err error) {
	w := newWorker(&run{cfg: Config{Conns: 1, Threads: 1, Protocol: HTTP1, Interval: tick}}, 0)
	w.net, w.state = &sim{w: w}, draining
	w.begin.Store(0)
	c := w.conns[0]
	c.state = open
	h := c.wire.(*http1)
	h.send(c, 1)
	for _, p := range pieces {
		if p == "EOF" {
			c.lost(2, errCut)
			continue
		}
		if err = h.feed(c, []byte(p), 2); err != nil {
			break
		}
	}
	for why := range w.tally.failures {
		failure = errors.New(why)
	}
	return w.answers.Load() == 1, failure, err
}

func TestHTTP1FindsTheEndHoweverAnAnswerIsCut(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\ncontent-LENGTH: 10\r\nX: y\r\n\r\n0123456789",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
	} {
		for cut := 0; cut <= len(answer); cut++ {
			answered, failure, err := feedHTTP1(answer[:cut], answer[cut:])
			if !answered || failure != nil || err != nil {
				t.Fatalf("%q cut after %d: answered %v, %v, %v, want an answer", answer, cut, answered, failure, err)
			}
			if answered, _, _ := feedHTTP1(answer[:cut]); answered && cut < len(answer) {
				t.Fatalf("%q is an answer", answer[:cut])
			}
		}
	}
	if answered, failure, err := feedHTTP1("HTTP/1.0 200 OK\r\n\r\nuntil the", " end", "EOF"); !answered || failure != nil || err != nil {
		t.Errorf("a body until the end: answered %v, %v, %v", answered, failure, err)
	}
}

func TestHTTP1RefusesWhatIsNoSuccess(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n":                         "answered 502",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxx":                                "1 bytes more than the answer's length",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n":                                  `Content-Length is "x"`,
		"SSH-2.0-OpenSSH\r\n\r\n":                                                       "is no answer of HTTP/1.1",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n":                   "is no size of a chunk",
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf|EOF":                         errCut.Error(),
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead):                         "longer than",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n|EOF":  errCut.Error(),
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX: unasked\r\n": "bytes more than",
	} {
		_, failure, err := feedHTTP1(strings.Split(answer, "|")...)
		if err == nil {
			err = failure
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", answer, err, want)
		}
	}
}

func FuzzHTTP1(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 20)
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc", 30)
	f.Fuzz(func(t *testing.T, answer string, cut int) {
		cut = min(max(cut, 0), len(answer))
		whole, _, _ := feedHTTP1(answer)
		parts, _, _ := feedHTTP1(answer[:cut], answer[cut:])
		if whole != parts {
			t.Errorf("%q: answered %v in one piece, %v cut after %d", answer, whole, parts, cut)
		}
	})
}
