package local

import (
	"net"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/socks"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	socksOK  = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	socks4OK = "\x00\x5a\x00\x00\x00\x00\x00\x00"
)

// step is something said, and what is to come then.
type step struct{ say, hear string }

var socksSessions = []struct {
	name  string
	steps []step
	asked string // what the stack was asked for
}{
	{"a name", []step{{"\x05\x01\x00", "\x05\x00"}, {"\x05\x01\x00\x03\x02db\x15\x38", socksOK}}, "CONNECT db:5432   local=true"},
	{"IPv4", []step{{"\x05\x02\x02\x00", "\x05\x00"}, {"\x05\x01\x00\x01\x0a\x00\x00\x07\x15\x38", socksOK}}, "CONNECT 10.0.0.7:5432   local=true"},
	{"IPv6", []step{{"\x05\x01\x00", "\x05\x00"}, {"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x15\x38", socksOK}}, "CONNECT [2001:db8::7]:5432   local=true"},
	{"a password", []step{{"\x05\x01\x02", "\x05\x02"}, {"\x01\x02me\x03pwd", "\x01\x00"}, {"\x05\x01\x00\x03\x02db\x15\x38", socksOK}}, "CONNECT db:5432   local=true"},
	{"all at once", []step{{"\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38", "\x05\x00" + socksOK}}, "CONNECT db:5432   local=true"},
	{"SOCKS4", []step{{"\x04\x01\x15\x38\x0a\x00\x00\x07me\x00", socks4OK}}, "CONNECT 10.0.0.7:5432   local=true"},
	{"SOCKS4a", []step{{"\x04\x01\x15\x38\x00\x00\x00\x01\x00db\x00", socks4OK}}, "CONNECT db:5432   local=true"},
}

func TestSOCKS(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		for _, session := range socksSessions {
			t.Run(session.name, func(t *testing.T) {
				c := dial(t, addr)
				for _, x := range session.steps {
					c.Send(x.say)
					c.Expect(x.hear)
				}
				if got := f.last.Load(); got != session.asked {
					t.Errorf("asked for %q, want %q", got, session.asked)
				}
				c.Send("hello")
				c.Expect("hello")
				c.FinishSending()
				c.ExpectEOF()
			})
		}
	})
}

// TestSOCKSSplit: a byte at a time, and data that comes with the request.
func TestSOCKSSplit(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		for _, session := range socksSessions {
			t.Run(session.name, func(t *testing.T) {
				c := dial(t, addr)
				c.Conn.(*net.TCPConn).SetNoDelay(true)
				for i, x := range session.steps {
					say := x.say
					if i == len(session.steps)-1 {
						say += "early"
					}
					for _, b := range []byte(say) {
						c.Send(string([]byte{b}))
						time.Sleep(100 * time.Microsecond) // so that many arrive alone; none has to
					}
					c.Expect(x.hear)
				}
				c.Expect("early")
				c.FinishSending()
				c.ExpectEOF()
			})
		}
	})
}

func TestSOCKSRefusals(t *testing.T) {
	runtimes(t, nil, func(t *testing.T, rt task.Runtime, f *far) {
		_, addr := serve(t, rt, f, Port{})
		for _, x := range []struct{ what, say, hear string }{
			{"no method", "\x05\x01\x01", "\x05\xff"},
			{"an app that is away", "\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38", "\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"},
			{"BIND", "\x05\x01\x00\x05\x02\x00\x03\x02db\x15\x38", "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
			{"a name that is none", "\x05\x01\x00\x05\x01\x00\x03\x03a/b\x15\x38", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
			{"an unknown type of address", "\x05\x01\x00\x05\x01\x00\x09\x03a/b\x15\x38", "\x05\x00"},
			{"SOCKS4 to an app that is away", "\x04\x01\x15\x38\x0a\x00\x00\x07\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
			{"SOCKS4 BIND", "\x04\x02\x15\x38\x0a\x00\x00\x07\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		} {
			c := dial(t, addr)
			c.Send(x.say)
			c.Expect(x.hear)
			c.ExpectClosed()
		}
		for _, leaves := range []string{"\x05", "\x05\x01\x00", "\x05\x01\x00\x05\x01", "\x04\x01"} {
			c := dial(t, addr)
			c.Send(leaves)
			c.Close()
		}
		if f.streams.Load() != 0 {
			t.Error("a stream was opened")
		}
	})
}

// TestSOCKSClientLeaves: a client that resets its connection while the Stream is being opened ends the attempt.
func TestSOCKSClientLeaves(t *testing.T) {
	runtimes(t, echo, func(t *testing.T, rt task.Runtime, f *far) {
		f.hold = make(chan struct{})
		_, addr := serve(t, rt, f, Port{})
		c := dial(t, addr)
		c.Send("\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38")
		c.Expect("\x05\x00")
		proxytest.Eventually(t, "the stream is asked for", func() bool { return f.last.Load() != nil })
		c.Abort()
		proxytest.Eventually(t, "the request is cancelled", func() bool { return f.cancelled.Load() == 1 })
	})
}

func TestReplies(t *testing.T) {
	for code, want := range map[proxy.Code]socks.Reply{
		proxy.NotPermitted: socks.NotAllowed, proxy.Denied: socks.NotAllowed, proxy.UnknownService: socks.HostUnreachable,
		proxy.AppUnreachable: socks.Refused, proxy.Timeout: socks.Expired, proxy.LoopDetected: socks.Failed,
	} {
		if got := replyTo(code); got != want {
			t.Errorf("replyTo(%s) = %d, want %d", code, got, want)
		}
	}
}
