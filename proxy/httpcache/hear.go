package httpcache

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	maxHearing = 64 // endpoints of one service that are asked for news; what others have answered is bounded by its freshness alone
	maxNews    = maxNotices * 64
	hearAtMost = holdNews + 15*time.Second // for an answer to a question
	firstPause = 50 * time.Millisecond     // after a question that failed, doubled each time, half of it random
	lastPause  = 5 * time.Second
	nextPause  = 4 * time.Millisecond // between questions, so that many changes are one answer
)

// source is whose news is asked for.
type source struct {
	ep proxy.Endpoint
	to proxy.Service
}

// listener asks one Endpoint what has changed of the answers that are kept of it, for as long as one of them may be used. It has a task, on one shard.
type listener struct {
	c      *Cache
	at     *site
	from   source
	shard  task.Shard
	cancel proxy.Cancel

	// Guarded by the site's lock.
	since  string     // position
	until  rules.Time // nothing that came from there is used after it
	failed bool       // the last question
}

// hear has the Endpoint of an answer that is kept asked for what changes from now on, until the answer is of no use. It is called by a task of the request's shard.
func (c *Cache) hear(s *site, req *proxy.Request, resp *proxy.Response, p *rules.Policy, set *Settings) {
	if resp.News == "" || c.cfg.Ask == nil || req.Endpoint == nil || !req.Endpoint.Mesh {
		return
	}
	from := source{ep: *req.Endpoint, to: req.Service}
	if req.Backend.Name != "" {
		from.to = req.Backend
	}
	until := c.now(req.Shard) + rules.Time(max(time.Minute, p.Lifetime+max(p.WhileFresh, p.IfError, set.StaleIfError, 0)))
	c.index(s)
	s.mu.Lock()
	l := s.listeners[from]
	if l != nil {
		l.until = max(l.until, until)
		s.mu.Unlock()
		return
	}
	if s.deaf || len(s.listeners) >= maxHearing && !s.dropFailedLocked() {
		s.mu.Unlock()
		return
	}
	from.to.Name = strings.Clone(from.to.Name)
	l = &listener{c: c, at: s, from: from, shard: req.Shard, since: strings.Clone(resp.News), until: until}
	if s.listeners == nil {
		s.listeners = make(map[source]*listener)
	}
	s.listeners[from] = l
	s.mu.Unlock()
	req.Shard.Go(l.run)
}

// dropFailedLocked makes room for another listener.
func (s *site) dropFailedLocked() bool {
	for from, l := range s.listeners {
		if l.failed {
			delete(s.listeners, from)
			return true
		}
	}
	return false
}

// run is the listener's task.
func (l *listener) run() {
	pause := firstPause
	for l.wanted() {
		err := l.ask()
		l.at.mu.Lock()
		l.failed = err != nil
		l.at.mu.Unlock()
		if l.cancel.Err() != nil || errors.Is(err, errNoNews) {
			break
		}
		if err == nil {
			pause = firstPause
			l.shard.Sleep(nextPause)
			continue
		}
		l.shard.Sleep(pause/2 + rand.N(pause/2))
		pause = min(2*pause, lastPause)
	}
	l.at.mu.Lock()
	defer l.at.mu.Unlock()
	if l.at.listeners[l.from] == l {
		delete(l.at.listeners, l.from)
	}
}

// wanted reports whether something of what came from there may still be used. If not, the listener is gone.
func (l *listener) wanted() bool {
	now := l.c.now(l.shard)
	l.at.mu.Lock()
	defer l.at.mu.Unlock()
	if l.at.listeners[l.from] != l {
		return false
	}
	if now >= l.until || l.at.deaf {
		delete(l.at.listeners, l.from)
		return false
	}
	return true
}

// errNoNews says that the sidecar tells nothing: it has ceased to keep answers, say.
var errNoNews = errors.New("the sidecar has no news of its answers")

// ask puts one question, and does what the answer says.
func (l *listener) ask() error {
	l.at.mu.Lock()
	since := l.since
	l.at.mu.Unlock()
	req := &proxy.Request{Method: "OPTIONS", Scheme: "http", Authority: l.from.to.Name, Path: "*", Version: proxy.HTTP11, Shard: l.shard, Cancel: &l.cancel,
		Service: l.from.to, News: since, Deadline: l.shard.Now().Add(hearAtMost)}
	var resp proxy.Response
	if err := l.c.cfg.Ask(&l.from.ep, req, &resp); err != nil {
		return err
	}
	defer resp.Close()
	if resp.Status == 501 {
		return errNoNews
	}
	if resp.Status != 200 || resp.News == "" {
		return &proxy.Error{Code: proxy.AppBadAnswer, Detail: "no answer to a question for news"}
	}
	notices, err := readNews(resp.Body)
	if err != nil {
		return err
	}
	l.heed(notices)
	l.at.mu.Lock()
	l.since = strings.Clone(resp.News)
	l.at.mu.Unlock()
	return nil
}

func readNews(body proxy.Body) (string, error) {
	var b strings.Builder
	if body == nil {
		return "", nil
	}
	p := make([]byte, 4096)
	for {
		n, err := body.Read(p)
		b.Write(p[:n])
		switch {
		case err == io.EOF:
			return b.String(), nil
		case err != nil:
			return "", err
		case b.Len() > maxNews:
			return noticeAll, nil // too much to be understood
		}
	}
}

// heed forgets what the notices say, of the listener's own service only: nobody can tell of another. What is not understood means everything.
func (l *listener) heed(notices string) {
	for notice := range strings.Lines(notices) {
		l.heedOne(strings.TrimSuffix(notice, "\n"))
		l.at.counters.heard.Add(1)
	}
}

func (l *listener) heedOne(notice string) {
	c, at := l.c, l.at
	if text, ok := strings.CutPrefix(notice, noticePath); ok {
		if d, ok := parseDigest(text); ok {
			c.changedPath(at, d, c.clock(l.shard))
			return
		}
	}
	if text, ok := strings.CutPrefix(notice, noticeTag); ok {
		if d, ok := parseDigest(text); ok {
			l.shard.Offload(func() { c.changedTag(at, d) })
			return
		}
	}
	l.shard.Offload(func() { c.changedAll(at) })
}

// StopListening ends the questions to other sidecars, before this one stops.
func (c *Cache) StopListening() {
	for _, s := range c.sites() {
		s.mu.Lock()
		s.deaf = true
		for _, l := range s.listeners {
			l.shard.Post(func() { l.cancel.Cancel(errGone) })
		}
		s.mu.Unlock()
	}
}

// hearing is how many endpoints are asked.
func (s *site) hearing() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners)
}
