package direct

import (
	"errors"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/http1"
	"github.com/pillion-proxy/pillion/proxy/http2"
	"github.com/pillion-proxy/pillion/proxy/proxyproto"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

// shardState is one shard's connections, guarded by its lock.
type shardState struct {
	d       *Direct
	shard   task.Shard
	targets map[key]*target
	sweepFn func()
	last    *target                       // which was asked for last; may be forgotten
	timer   task.Timer                    // of sweep; nil when no connection is idle
	shut    bool                          // no connection is kept
	h2      [proxyproto.V2 + 1]*pool.Pool // h2c connections, by Options.Header
	h3      []*pool.Pool                  // HTTP/3 connections, by app
}

func newShardState(d *Direct, s task.Shard) *shardState {
	st := &shardState{d: d, shard: s, targets: make(map[key]*target)}
	st.sweepFn = st.sweep
	for v := range st.h2 {
		header := proxyproto.Append(nil, proxyproto.Version(v), proxyproto.Header{})
		dial := func(s task.Shard, ep *proxy.Endpoint, closed, changed func(pool.Link)) (pool.Link, error) {
			return st.dialH2(s, ep, header, closed, changed)
		}
		st.h2[v] = pool.New(pool.Config{Shard: s, Dial: dial, MaxLinks: 16, MaxBackoff: 250 * time.Millisecond})
	}
	return st
}

// target is the app at one address, as one shard sees it. Guarded by the shard's lock.
type target struct {
	state   *shardState
	network string
	key     key
	most    time.Duration // that an idle connection is kept
	places  *Places       // of its connections; those of the last call
	seen    patience      // of the app
	listed  bool          // in shardState.targets
	idle    []idleConn    // the most recently used last
	dialled task.Instant  // when the last connect ended; 0 if there was none
	why     string        // the last connect failed; "" if it did not
	speech  *speech       // shared with the other shards
	memory  *http1.Memory // of what is said to the app
}

type idleConn struct {
	conn   *http1.ClientConn
	since  task.Instant
	caller *proxy.Peer // for whom alone it is; nil: for anybody
	places *Places     // where it counts
}

// Idle connections are looked through this often.
const sweepEvery = 500 * time.Millisecond

func (st *shardState) target(network string, k key, o *Options) *target {
	st.shard.Lock()
	defer st.shard.Unlock()
	t := st.last
	if t == nil || !t.listed || t.key != k {
		t = st.find(network, k)
		st.last = t
	}
	t.set(o)
	return t
}

// set notes what is known of the app. The caller holds the lock.
func (t *target) set(o *Options) {
	t.most, t.places = o.Idle, o.Places
	if t.most == 0 {
		t.most = 4 * time.Second
	}
}

// find looks the app at k up. The caller holds the lock.
func (st *shardState) find(network string, k key) *target {
	t := st.targets[k]
	if t == nil {
		if len(st.targets) >= maxTargets {
			st.forget()
		}
		t = &target{state: st, network: network, key: k, speech: st.d.heard.of(k), memory: http1.NewMemory(st.shard)}
		st.list(t)
	}
	return t
}

// list has t found from now on. The caller holds the lock.
func (st *shardState) list(t *target) { st.targets[t.key], t.listed = t, true }

// overHTTP1 carries out an Exchange over HTTP/1.1.
func (t *target) overHTTP1(req *proxy.Request, resp *proxy.Response, o *Options) error {
	_, err := t.tryHTTP1(req, resp, o)
	return err
}

// tryHTTP1 carries out an Exchange over an idle connection, or a new one. A request that met an idle connection as
// the app closed it, before a byte of the answer, is sent again on a new one if repeating it is harmless. An Upgrade, which is not
// repeated and keeps its connection, has a new one from the start. With an error, mute says that a new connection ended without a byte.
func (t *target) tryHTTP1(req *proxy.Request, resp *proxy.Response, o *Options) (mute bool, err error) {
	var caller *proxy.Peer
	if o.Header != proxyproto.None {
		caller = req.Peer
	}
	conn := t.take(req, caller)
	if conn == nil {
		if conn, err = o.Places.enter(t.state, req, t, caller); err != nil {
			return false, err
		}
	}
	if conn != nil {
		if err = conn.RoundTrip(req, resp); err == nil {
			t.speech.heard(overHTTP1)
			return false, nil
		}
		if req.Cancel.Err() != nil || !untouched(err) && !(conn.Stale() && repeatable(req)) {
			return false, err
		}
		if err = t.enterAnew(req, o.Places); err != nil {
			return false, err
		}
	}
	return t.overNew(req, resp, o, caller)
}

// overNew carries out an Exchange over a new connection, which has its place.
func (t *target) overNew(req *proxy.Request, resp *proxy.Response, o *Options, caller *proxy.Peer) (mute bool, err error) {
	s := t.state.shard
	c, err := t.state.d.dial(s, t.network, t.key, req.Deadline, req.ConnectTimeout, t.header(req, o))
	if err != nil {
		o.Places.leave()
		return false, err
	}
	put := func(c *http1.ClientConn) { t.put(c, caller, o.Places) }
	remove := func(c *http1.ClientConn) { t.remove(c, o.Places) }
	conn := http1.NewClientConn(s, c, http1.ClientConfig{MaxHead: t.state.d.cfg.MaxHead, OnIdle: put, OnClose: remove, Memory: t.memory})
	if err = conn.RoundTrip(req, resp); err == nil {
		t.speech.heard(overHTTP1)
	}
	return conn.Mute(), err
}

// enterAnew takes the place of a new connection: an idle one will not do.
func (t *target) enterAnew(req *proxy.Request, p *Places) error {
	_, err := p.enter(t.state, req, nil, nil)
	return err
}

// repeatable reports whether req may be sent twice: RFC 9110 section 9.2.2, and no body that has been read.
func repeatable(req *proxy.Request) bool {
	if req.Body != nil {
		return false
	}
	switch req.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// untouched reports whether err says that the connection had ended before anything of the request was read.
func untouched(err error) bool {
	var e *proxy.Error
	return errors.As(err, &e) && e.Unsent && e.Code == proxy.AppClosed
}

// take returns the most recently used idle connection that may be used for caller, or nil.
func (t *target) take(req *proxy.Request, caller *proxy.Peer) *http1.ClientConn {
	if req.Upgrade != "" {
		return nil
	}
	s := t.state.shard
	s.Lock()
	c := t.takeLocked(caller, s.Now())
	s.Unlock()
	return c
}

func (t *target) takeLocked(caller *proxy.Peer, now task.Instant) *http1.ClientConn {
	keep := t.seen.keep(t.most, now)
	for i := len(t.idle) - 1; i >= 0 && now.Sub(t.idle[i].since) <= keep; i-- { // those before it are older, and sweep's
		if x := &t.idle[i]; x.caller == caller {
			c := x.conn
			if last := len(t.idle) - 1; i == last {
				*x = idleConn{}
				t.idle = t.idle[:last]
			} else {
				t.idle = slices.Delete(t.idle, i, i+1)
			}
			return c
		}
	}
	return nil
}

// put takes back a connection that is idle, which counts at p.
func (t *target) put(c *http1.ClientConn, caller *proxy.Peer, p *Places) {
	given, wanted := p.pass(t, c, caller)
	if given {
		return
	}
	st := t.state
	st.shard.Lock()
	if !t.listed && st.targets[t.key] == nil { // t was forgotten while the request ran
		st.list(t)
	}
	keep := t.listed && len(t.idle) < st.d.cfg.MaxIdle && !st.shut && !wanted
	if keep {
		t.idle = append(t.idle, idleConn{c, st.shard.Now(), caller, p})
		if st.timer == nil {
			st.timer = st.shard.After(min(sweepEvery, t.seen.keep(t.most, st.shard.Now())), st.sweepFn)
		}
	}
	st.shard.Unlock()
	if !keep {
		c.Close()
	} else if p.wanted() { // by somebody who came while it was put here
		st.giveUp(p)
	}
}

// remove is ClientConfig.OnClose, of a connection that counts at p. One that is still in the list was closed by the app.
func (t *target) remove(c *http1.ClientConn, p *Places) {
	defer p.leave()
	t.state.shard.Lock()
	defer t.state.shard.Unlock()
	if i := slices.IndexFunc(t.idle, func(x idleConn) bool { return x.conn == c }); i >= 0 {
		now := t.state.shard.Now()
		t.seen.closed(now.Sub(t.idle[i].since), now)
		t.idle = slices.Delete(t.idle, i, i+1)
	}
}

// sweep closes what has been idle for too long. It is a callback.
func (st *shardState) sweep() {
	var old []*http1.ClientConn
	left := false
	st.shard.Lock()
	now := st.shard.Now()
	for _, t := range st.targets {
		n := 0
		keep := t.seen.keep(t.most, now)
		for n < len(t.idle) && now.Sub(t.idle[n].since) > keep {
			old = append(old, t.idle[n].conn)
			n++
		}
		t.idle = slices.Delete(t.idle, 0, n)
		left = left || len(t.idle) > 0
	}
	st.timer = nil
	if left {
		st.timer = st.shard.After(sweepEvery, st.sweepFn)
	}
	st.shard.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// maxTargets is when addresses without idle connections are forgotten.
const maxTargets = 256

// forget makes room for another target. The caller holds the lock.
func (st *shardState) forget() {
	for k, t := range st.targets {
		if len(t.idle) == 0 {
			delete(st.targets, k)
			t.listed = false
		}
	}
}

// overH2C carries out an Exchange over one of the shard's h2c connections to the app. An app that turns out not to speak HTTP/2 is
// called with HTTP/1.1 instead, now and for a while, unless the configuration says h2c.
func (t *target) overH2C(req *proxy.Request, resp *proxy.Response, o *Options) error {
	err := t.state.h2[o.Header].RoundTrip(req.Endpoint, req, resp)
	if err == nil {
		t.speech.heard(overHTTP2)
		return nil
	}
	if o.Protocol != Auto || !speaksNoHTTP2(err) {
		return err
	}
	t.speech.noHTTP2(t.state.shard.Now())
	return t.overHTTP1(req, resp, o)
}

func speaksNoHTTP2(err error) bool {
	var no *noHTTP2
	return errors.As(err, &no)
}

// findOut carries out an Exchange with an app that may speak HTTP/1.1, HTTP/2 or both: over HTTP/1.1, unless that is gRPC or
// the app was seen to speak HTTP/2 only.
func (t *target) findOut(req *proxy.Request, resp *proxy.Response, o *Options) error {
	now := t.state.shard.Now()
	if t.speech.onlyHTTP2() || isGRPC(req) && !t.speech.refusesHTTP2(now) {
		return t.overH2C(req, resp, o)
	}
	var first *replay
	content := req.Body
	if content != nil && t.speech.unknown() {
		first = newReplay(t.state.shard, content)
		req.Body = first
	}
	mute, err := t.tryHTTP1(req, resp, o)
	req.Body = content
	switch {
	case err == nil || req.Cancel.Err() != nil:
		return err
	case errors.Is(err, http1.ErrHTTP2): // it has not run what it could not read
		t.speech.noHTTP1()
	case mute && t.speech.mayProbe(now) && t.answersHTTP2(req, o):
		if t.speech.noHTTP1(); !repeatable(req) {
			return err
		}
	default:
		return err
	}
	if content != nil {
		if first == nil {
			return err // the content is gone; the next one knows
		}
		if req.Body = first.rewind(); req.Body == nil {
			req.Body = content
			return err
		}
		defer func() { req.Body = content }()
	}
	return t.overH2C(req, resp, o)
}

// answersHTTP2 finds out whether the app speaks HTTP/2, without a request.
func (t *target) answersHTTP2(req *proxy.Request, o *Options) bool {
	_, err := t.state.h2[o.Header].Get(req.Endpoint, req)
	return err == nil
}

// dialH2 is pool.Config.Dial for h2c.
func (st *shardState) dialH2(s task.Shard, ep *proxy.Endpoint, header []byte, closed, changed func(pool.Link)) (pool.Link, error) {
	network, k := address(ep)
	p, err := st.enter(network, k)
	if err != nil {
		return nil, err
	}
	c, err := st.d.dial(s, network, k, 0, 0, header)
	if err != nil {
		p.leave()
		return nil, err
	}
	cfg := st.d.cfg.HTTP2
	cfg.OnChange = func(conn *http2.Conn) { changed(conn) }
	cfg.OnClose = func(conn *http2.Conn, _ error) { p.leave(); closed(conn) }
	conn := http2.NewClient(s, c, cfg)
	s.Go(func() { _ = conn.Serve(nil) })
	if err := conn.WaitReady(s.Now().Add(st.d.cfg.DialTimeout)); err != nil {
		conn.Close()
		return nil, &noHTTP2{k.String(), err}
	}
	return conn, nil
}

// enter takes the place of a connection to the app at k that carries many requests.
func (st *shardState) enter(network string, k key) (*Places, error) {
	st.shard.Lock()
	p := st.find(network, k).places
	st.shard.Unlock()
	_, err := p.enter(st, nil, nil, nil)
	return p, err
}

// noHTTP2 says that the app accepted a connection and then did not speak HTTP/2 on it.
type noHTTP2 struct {
	address string
	err     error
}

func (e *noHTTP2) Error() string {
	return "the app at " + e.address + " does not speak HTTP/2 without TLS: " + e.err.Error()
}

func (e *noHTTP2) Unwrap() error { return e.err }

// closeIdle closes what is idle now, and from now on what becomes idle.
func (st *shardState) closeIdle() {
	var all []*http1.ClientConn
	st.shard.Lock()
	st.shut = true
	for _, t := range st.targets {
		for _, c := range t.idle {
			all = append(all, c.conn)
		}
		t.idle = nil
	}
	st.shard.Unlock()
	for _, c := range all {
		c.Close()
	}
	for _, p := range st.h2 {
		p.Shutdown()
	}
	for _, p := range st.h3 {
		p.Shutdown()
	}
}
