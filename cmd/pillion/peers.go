package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/answer"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/pool"
)

const (
	peersTimeout = 3 * time.Second // for all of them, who are asked side by side
	maxPeers     = 64              // more are counted only
)

// neighbour is a peer that can be asked.
type neighbour struct {
	admin.Peer
	endpoint proxy.Endpoint
	shard    task.Shard // where there is a Link to it, if there is one
}

// peers asks the sidecars that this one calls what they do.
func (s *sidecar) peers(ctx context.Context) admin.Peers {
	ctx, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	all := s.knownPeers(ctx)
	var p admin.Peers
	if len(all) > maxPeers {
		p.Left, all = len(all)-maxPeers, all[:maxPeers]
	}
	var asked sync.WaitGroup
	for _, k := range all {
		asked.Go(func() { s.askPeer(ctx, k) })
	}
	asked.Wait()
	p.Peers = make([]admin.Peer, len(all))
	for i, k := range all {
		p.Peers[i] = k.Peer
	}
	return p
}

// knownPeers are the sidecars that requests go to, each once.
func (s *sidecar) knownPeers(ctx context.Context) []*neighbour {
	linked := s.linkedShards(ctx)
	health := s.health(ctx)
	var all []*neighbour
	for _, svc := range s.config().Services {
		for _, h := range health[svc.Name].health {
			ep := h.Endpoint
			if !h.InUse || !ep.Mesh || s.Present.own("tcp", ep.Addr.String()) {
				continue
			}
			i := slices.IndexFunc(all, func(k *neighbour) bool { return k.endpoint.Addr == ep.Addr && k.endpoint.Identity == ep.Identity })
			if i < 0 {
				i = len(all)
				k := &neighbour{Peer: admin.Peer{Address: ep.Addr.String(), Identity: string(ep.Identity)}, endpoint: ep, shard: linked[peerKey{ep.Addr.String(), ep.Identity}]}
				if k.shard == nil {
					k.shard = s.Runtime.Shards()[0]
				}
				all = append(all, k)
			}
			if k := all[i]; !slices.Contains(k.Services, svc.Name) {
				k.Services = append(k.Services, svc.Name)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *neighbour) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), a.endpoint.Addr.Compare(b.endpoint.Addr))
	})
	return all
}

// peerKey tells peers apart.
type peerKey struct {
	address  string
	identity proxy.Identity
}

// linkedShards are those with Links, by where they lead.
func (s *sidecar) linkedShards(ctx context.Context) map[peerKey]task.Shard {
	all := make(map[peerKey]task.Shard)
	for i, sh := range s.Runtime.Shards() {
		var mine []peerKey
		err := task.Call(ctx, sh, func() {
			s.Pools.links[i].Each(func(ep *proxy.Endpoint, _ pool.Link) { mine = append(mine, peerKey{ep.Addr.String(), ep.Identity}) })
		})
		if err != nil {
			continue // mine may still be written
		}
		for _, k := range mine {
			all[k] = sh
		}
	}
	return all
}

// peerAnswer is what came of a question.
type peerAnswer struct {
	status int
	code   string
	body   []byte
	err    error
}

// askPeer completes k. It waits, and is for ordinary goroutines.
func (s *sidecar) askPeer(ctx context.Context, k *neighbour) {
	began := time.Now()
	done := make(chan peerAnswer, 1)
	end, _ := ctx.Deadline()
	task.Start(k.shard, func() { done <- s.question(k.shard, &k.endpoint, time.Until(end)) })
	var a peerAnswer
	select {
	case a = <-done:
	case <-ctx.Done():
		a.err = errLatePeer
	}
	k.Took = time.Since(began).Seconds()
	var e *proxy.Error
	switch {
	case errors.As(a.err, &e):
		k.Code, k.Error = string(e.Code), e.Detail
		if e.Err != nil {
			k.Error += ": " + e.Err.Error()
		}
	case a.err != nil:
		k.Error = a.err.Error()
	case a.code != "":
		text := strings.TrimSpace(string(a.body))
		k.Code, k.Error = a.code, text
	default:
		st := new(admin.Status)
		if err := json.Unmarshal(a.body, st); err != nil || a.status != http.StatusOK || st.Service == "" {
			k.Code, k.Error = string(proxy.Unsupported), "it does not answer as a pillion does that can be asked"
			return
		}
		st.FillLists()
		k.Status = st
	}
}

// errLatePeer is about a peer that did not answer in time.
var errLatePeer = &proxy.Error{Code: proxy.Timeout, Detail: "no answer within " + peersTimeout.String()}

// question is one to the sidecar at ep. It is for tasks of sh.
func (s *sidecar) question(sh task.Shard, ep *proxy.Endpoint, limit time.Duration) (a peerAnswer) {
	cancel := new(proxy.Cancel)
	timer := sh.After(limit, func() { cancel.Cancel(errLatePeer) })
	defer timer.Stop()
	req := &proxy.Request{Method: "GET", Scheme: "http", Authority: "sidecar", Path: viewPath, Version: proxy.HTTP11, Shard: sh, Cancel: cancel,
		Deadline: sh.Now().Add(limit), Service: proxy.Service{Name: proxy.SidecarName}, Endpoint: ep}
	var resp proxy.Response
	if a.err = s.Upstream.Ask(req, &resp); a.err != nil {
		return a
	}
	defer resp.Close()
	a.status, a.code = resp.Status, resp.Fields.Get(answer.CodeField)
	if resp.Body != nil {
		var b bytes.Buffer
		_, a.err = io.Copy(&b, io.LimitReader(resp.Body, maxView))
		a.body = b.Bytes()
	}
	return a
}

// peersFresh is how long an answer is given to others that ask.
const peersFresh = time.Second

// peersPage serves /peers. Who asks while peers are asked gets the same answer.
type peersPage struct {
	ask func(context.Context) admin.Peers

	mu   sync.Mutex // held while peers are asked
	at   time.Time
	last admin.Peers
}

// ServeHTTP implements http.Handler.
func (p *peersPage) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	serveJSON(w, p.now())
}

func (p *peersPage) now() admin.Peers {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.IsZero() || time.Since(p.at) > peersFresh {
		p.last = p.ask(context.Background()) // others wait for it too
		p.at = time.Now()
	}
	return p.last
}
