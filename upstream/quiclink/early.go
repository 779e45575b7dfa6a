package quiclink

import (
	"crypto/tls"

	"github.com/hashicorp/golang-lru/v2"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http3"
)

// maxSessions bounds the peers whose sessions are kept for 0-RTT; the one not used for longest is forgotten.
const maxSessions = 256

// session is what is remembered of a Link, so that the next one to the same peer need not wait for an answer.
type session struct {
	state   *tls.ClientSessionState
	pillion bool
}

type sessionKey struct {
	ep proxy.Endpoint
}

// sessions is safe for concurrent use. Sessions belong to an Endpoint: another identity at the same address is another peer.
type sessions struct {
	known *lru.Cache[sessionKey, session] // nil without early data
}

func newSessions() sessions {
	known, err := lru.New[sessionKey, session](maxSessions)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return sessions{known}
}

// of returns the sessions of one peer, as crypto/tls wants them.
func (s sessions) of(ep *proxy.Endpoint) tls.ClientSessionCache {
	return peerSessions{s, sessionKey{*ep}}
}

// note keeps what the peer's SETTINGS said.
func (s sessions) note(ep *proxy.Endpoint, pillion bool) {
	if s.known == nil {
		return
	}
	if x, ok := s.known.Get(sessionKey{*ep}); ok {
		x.pillion = pillion
		s.known.Add(sessionKey{*ep}, x)
	}
}

func (s sessions) get(ep *proxy.Endpoint) session {
	x, _ := s.known.Get(sessionKey{*ep})
	return x
}

func (s sessions) forget(ep *proxy.Endpoint) { s.known.Remove(sessionKey{*ep}) }

type peerSessions struct {
	sessions
	key sessionKey
}

// Get implements tls.ClientSessionCache. A session is used once (RFC 8446 appendix C.4).
func (p peerSessions) Get(string) (*tls.ClientSessionState, bool) {
	x, ok := p.known.Get(p.key)
	if !ok || x.state == nil {
		return nil, false
	}
	p.known.Add(p.key, session{pillion: x.pillion})
	return x.state, true
}

// Put implements tls.ClientSessionCache.
func (p peerSessions) Put(_ string, state *tls.ClientSessionState) {
	x, _ := p.known.Get(p.key)
	x.state = state
	p.known.Add(p.key, x)
}

// early sends requests while the handshake may still be under way. It is used by tasks of goroutines.
type early struct{ l *Link }

// sender is what carries out the Link's requests on the far shard.
func (l *Link) sender() proxy.RoundTripper {
	if l.d.cfg.EarlyData {
		return early{l}
	}
	return l.conn
}

// RoundTrip implements proxy.RoundTripper, on an ordinary goroutine.
func (e early) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	l := e.l
	if l.shaken() {
		return l.conn.RoundTrip(req, resp)
	}
	if !http3.Replayable(req) {
		l.awaitHandshake()
		return l.conn.RoundTrip(req, resp)
	}
	own := req.Fields.Has(http3.EarlyDataField)
	err := l.conn.RoundTrip(req, resp)
	if err != nil || own || resp.Status != statusTooEarly {
		return err
	}
	// RFC 8470 section 5.2: "a user agent that sends a request in early data that receives a 425 (Too Early) response SHOULD automatically
	// retry" after the handshake. Who has said Early-Data himself gets the 425.
	resp.Close()
	l.awaitHandshake()
	return l.conn.RoundTrip(req, resp)
}

const statusTooEarly = 425

// shaken reports whether the handshake is complete.
func (l *Link) shaken() bool {
	select {
	case <-l.q.HandshakeComplete():
		return true
	default:
		return false
	}
}

// awaitHandshake waits, on an ordinary goroutine, until the handshake is complete or the connection has ended.
func (l *Link) awaitHandshake() {
	select {
	case <-l.q.HandshakeComplete():
	case <-l.q.Context().Done():
	}
}
