//go:build e2e

package e2e

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// added are the fields that pillion may add to a request, in lower case.
var added = []string{"x-forwarded-for", "forwarded", "x-pillion-identity", "x-forwarded-client-cert", "via", "x-request-id", "traceparent", "pillion-path"}

func TestFieldsArriveByteForByte(t *testing.T) {
	requests := make(chan *message, 1)
	const answerHead = "HTTP/1.1 200 Fine And Dandy\r\n" +
		"DATE: Sun, 06 Nov 1994 08:49:37 GMT\r\n" +
		"sErVeR: odd/1\r\n" +
		"Set-Cookie: a=1\r\n" +
		"X-Between: yes\r\n" +
		"set-cookie: b=2\r\n" +
		"X-Empty:\r\n" +
		"X-Inner: a  b\tc, \"q, r\"\r\n" +
		"ETag: W/\"x\"\r\n" +
		"Content-Length: 5\r\n\r\n"
	app := rawApp(t, func(c *net.TCPConn) {
		m, err := readMessage(bufio.NewReader(c))
		if err != nil {
			return
		}
		requests <- m
		_, _ = io.WriteString(c, answerHead+"fine.")
	})
	p := newPair(t, setup{app: app})
	const body = `{"@context": "https://www.w3.org/ns/activitystreams"}`
	fields := []string{
		"hOsT: Social.Example:8443",
		"DATE: Sun, 06 Nov 1994 08:49:37 GMT",
		"Digest: SHA-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
		`Signature: keyId="https://a.example/u#main-key",algorithm="rsa-sha256",headers="(request-target) host date digest",signature="A+b/c=="`,
		"x-lower: 1",
		"X-UPPER: 2",
		"X-Lower: 3",
		"X-Empty:",
		"X-Inner: a  b\tc, \"q, r\"",
		"X-Latin: caf\xe9",
		"Cookie: a=b; c=d",
		"accept: */*",
		"Content-type: application/activity+json",
		"CONTENT-LENGTH: 53",
		"SOAPAction: \"urn:x#y\"",
	}
	request := "POST /inbox/a%2Fb//c/../d?x=%7B%7d&&y=%20+ HTTP/1.1\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n" + body
	answer := exchangeRaw(t, p.local, request)

	got := <-requests
	if want := "POST /inbox/a%2Fb//c/../d?x=%7B%7d&&y=%20+ HTTP/1.1"; got.start != want {
		t.Errorf("request line = %q, want %q", got.start, want)
	}
	equalBytes(t, "body of the request", got.body, []byte(body))
	compareFields(t, "request", withoutAdded(got.fields), fields)

	if want := "HTTP/1.1 200 Fine And Dandy"; answer.start != want {
		t.Errorf("status line = %q, want %q", answer.start, want)
	}
	equalBytes(t, "body of the answer", answer.body, []byte("fine."))
	lines := strings.Split(strings.TrimSuffix(answerHead, "\r\n\r\n"), "\r\n")[1:]
	compareFields(t, "answer", withoutAdded(answer.fields), lines)
}

// withoutAdded drops what pillion is known to add.
func withoutAdded(fields []string) []string {
	return slices.DeleteFunc(slices.Clone(fields), func(f string) bool {
		name, _, _ := strings.Cut(f, ":")
		return slices.Contains(added, strings.ToLower(name))
	})
}

// compareFields wants the same lines in the same order. The place and the case of Content-Length are framing's, and
// so is white space around a value.
func compareFields(t *testing.T, what string, got, want []string) {
	t.Helper()
	normal := func(fields []string) (list []string) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ":")
			if !strings.EqualFold(name, "content-length") {
				list = append(list, name+": "+strings.TrimSpace(value))
			}
		}
		return list
	}
	g, w := normal(got), normal(want)
	if !slices.Equal(g, w) {
		t.Errorf("fields of the %s:\n%s\nwant:\n%s", what, strings.Join(g, "\n"), strings.Join(w, "\n"))
	}
}

func TestWhoCallsIsToldAndForgeriesAreRemoved(t *testing.T) {
	if *direct {
		return
	}
	requests := make(chan *message, 1)
	app := rawApp(t, func(c *net.TCPConn) {
		m, err := readMessage(bufio.NewReader(c))
		if err != nil {
			return
		}
		requests <- m
		_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	p := newPair(t, setup{app: app})
	exchangeRaw(t, p.local, "GET / HTTP/1.1\r\nHost: app\r\n"+
		"X-Forwarded-For: 6.6.6.6\r\nFORWARDED: for=6.6.6.6\r\nx-pillion-identity: spiffe://e2e.test/admin\r\n"+
		"X-Forwarded-Client-Cert: URI=spiffe://e2e.test/admin\r\n\r\n")
	got := <-requests
	all := strings.Join(got.fields, "\n")
	if strings.Contains(all, "6.6.6.6") || strings.Contains(all, "e2e.test/admin") {
		t.Errorf("fields at the app:\n%s\nwant nothing of what the client forged", all)
	}
	if id := got.field("X-Pillion-Identity"); id != "spiffe://e2e.test/web" {
		t.Errorf("X-Pillion-Identity = %q, want spiffe://e2e.test/web", id)
	}
	if xfcc := got.field("X-Forwarded-Client-Cert"); !strings.Contains(xfcc, "URI=spiffe://e2e.test/web") {
		t.Errorf("X-Forwarded-Client-Cert = %q, want URI=spiffe://e2e.test/web in it", xfcc)
	}
	for name, want := range map[string]string{"X-Forwarded-For": "127.0.0.1", "Forwarded": "127.0.0.1"} {
		if v := got.field(name); !strings.Contains(v, want) {
			t.Errorf("%s = %q, want %s in it", name, v, want)
		}
	}
}

func TestHopByHopFieldsAreRemoved(t *testing.T) {
	if *direct {
		return
	}
	requests := make(chan *message, 1)
	app := rawApp(t, func(c *net.TCPConn) {
		m, err := readMessage(bufio.NewReader(c))
		if err != nil {
			return
		}
		requests <- m
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: X-Private-Answer, close\r\nX-Private-Answer: 1\r\nKeep-Alive: timeout=5\r\nX-Public: 1\r\nContent-Length: 0\r\n\r\n")
	})
	p := newPair(t, setup{app: app})
	answer := exchangeRaw(t, p.local, "GET / HTTP/1.1\r\nHost: app\r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\n"+
		"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, deflate\r\nX-Public: 1\r\n\r\n")
	for what, m := range map[string]*message{"request": <-requests, "answer": answer} {
		for _, name := range []string{"X-Private", "X-Private-Answer", "Keep-Alive", "Proxy-Connection"} {
			if v := m.field(name); v != "" {
				t.Errorf("%s of the %s = %q, want none: it is hop-by-hop", name, what, v)
			}
		}
		if v := m.field("X-Public"); v != "1" {
			t.Errorf("X-Public of the %s = %q, want 1", what, v)
		}
	}
}
