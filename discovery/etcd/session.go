package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/discovery/grpcio"
)

// session is one stream of watches at one member, and the subs that live on it.
type session struct {
	client *Client
	grpc   *grpcio.Client
	meta   grpcio.Metadata
	stream *grpcio.Stream
	subs   map[*sub]bool
	last   int64          // the last watch's number
	watch  map[int64]*sub // by number of the watch
	armed  bool           // flush will fire

	ctx     context.Context
	cancel  context.CancelFunc
	heard   chan happened
	listed  chan answered
	lists   chan struct{} // slots for listings at a time
	flush   *time.Timer
	running sync.WaitGroup

	mu  sync.Mutex // guards err
	err error      // why the stream ended
}

// answered is the end of a listing.
type answered struct {
	sub *sub
	listing
	err error
}

const (
	// settle is how long changes are collected before a set is made of them.
	settle = 20 * time.Millisecond
	// atATime bounds the listings that run.
	atATime = 16
	// again is how long after a failure of one service alone it is tried again.
	again = 500 * time.Millisecond
)

var errEnded = errors.New("the server ended the watch")

// session serves all subs at one member until that fails, and says how.
func (c *Client) session(ctx context.Context, g *grpcio.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	meta, err := c.authenticate(ctx, g)
	if err != nil {
		return err
	}
	stream, err := g.Stream(ctx, methodWatch, meta)
	if err != nil {
		return err
	}
	s := &session{client: c, grpc: g, meta: meta, stream: stream, subs: make(map[*sub]bool), watch: make(map[int64]*sub), ctx: ctx, cancel: cancel,
		heard: make(chan happened), listed: make(chan answered), lists: make(chan struct{}, atATime), flush: time.NewTimer(time.Hour)}
	s.flush.Stop()
	s.running.Go(s.receive)
	defer s.running.Wait()
	defer stream.Close()
	defer cancel()
	return s.run()
}

// receive hands on what the server says, and ends the session when it ends the stream.
func (s *session) receive() {
	for {
		data, err := s.stream.Recv()
		var h happened
		if err == nil {
			h, err = parseHappened(data)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errEnded
			}
			s.end(err)
			return
		}
		select {
		case s.heard <- h:
		case <-s.ctx.Done():
			return
		}
	}
}

// end ends the session; the first reason counts.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.cancel()
}

func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return s.ctx.Err()
	}
	return s.err
}

func (s *session) run() error {
	tick := time.NewTicker(again)
	defer tick.Stop()
	if err := s.meet(); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-s.ctx.Done():
			return s.reason()
		case <-s.client.kick:
			err = s.meet()
		case h := <-s.heard:
			err = s.hear(h)
		case a := <-s.listed:
			err = s.take(a)
		case <-s.flush.C:
			s.armed = false
			for one := range s.subs {
				if one.dirty {
					one.publish()
				}
			}
		case now := <-tick.C:
			err = s.look(now)
		}
		if err != nil {
			return err
		}
	}
}

// meet notices subs that have come or gone.
func (s *session) meet() error {
	present := s.client.present()
	for one := range s.subs {
		if !present[one] {
			delete(s.subs, one)
			if err := s.forget(one); err != nil {
				return err
			}
		}
	}
	for one := range present {
		if s.subs[one] {
			continue
		}
		s.subs[one] = true
		one.watch, one.retryAt = 0, time.Time{}
		if one.rev == 0 || one.suspect {
			s.list(one)
		} else if err := s.create(one); err != nil { // it goes on where it was
			return err
		}
	}
	return nil
}

// lost says why nothing can be sent: the receiver knows better than io.EOF.
func (s *session) lost(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	<-s.ctx.Done()
	return s.reason()
}

// list reads all of one sub's keys, on a goroutine of its own.
func (s *session) list(one *sub) {
	one.retryAt = time.Time{}
	s.running.Go(func() { s.read(one) })
}

func (s *session) read(one *sub) {
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	case <-s.ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	a := answered{sub: one}
	data, err := s.grpc.Call(ctx, methodRange, rangeRequest(one.begin, one.end), s.meta)
	if err == nil {
		a.listing, err = parseListing(data)
	}
	a.err = err
	select {
	case s.listed <- a:
	case <-s.ctx.Done():
	}
}

// take uses a listing.
func (s *session) take(a answered) error {
	one := a.sub
	if !s.subs[one] {
		return nil
	}
	if a.err == nil {
		if slices.ContainsFunc(a.pairs, func(p pair) bool { return !one.asked(p) }) {
			return errWire
		}
		one.load(a.listing)
		s.flushSoon()
		return s.create(one)
	}
	switch grpcio.CodeOf(a.err) {
	case grpcio.PermissionDenied, grpcio.ResourceExhausted, grpcio.InvalidArgument: // of this service alone
		one.fail(fmt.Errorf("etcd: read %s: %w", one.begin, a.err))
		one.retryAt = time.Now().Add(again)
		return nil
	}
	return fmt.Errorf("read %s: %w", one.begin, a.err)
}

func (s *session) create(one *sub) error {
	if err := s.forget(one); err != nil {
		return err
	}
	s.last++
	one.watch = s.last
	s.watch[one.watch] = one
	if err := s.stream.Send(createWatch(one.watch, one.begin, one.end, one.rev+1)); err != nil {
		return s.lost(err)
	}
	return nil
}

// forget ends the watch of a sub.
func (s *session) forget(one *sub) error {
	if one.watch == 0 {
		return nil
	}
	id := one.watch
	delete(s.watch, id)
	one.watch = 0
	if err := s.stream.Send(cancelWatch(id)); err != nil {
		return s.lost(err)
	}
	return nil
}

// hear uses what the server says of one watch.
func (s *session) hear(h happened) error {
	one := s.watch[h.id]
	switch {
	case one == nil && h.canceled && h.id <= 0:
		return fmt.Errorf("watch: %s", clip(h.reason))
	case one == nil && (h.id <= 0 || h.id > s.last): // there was none
		return errWire
	case one == nil: // it was ended
		return nil
	case h.canceled:
		delete(s.watch, h.id)
		one.watch = 0
		if h.compacted > 0 {
			s.list(one) // what has happened since is forgotten there
			return nil
		}
		one.fail(fmt.Errorf("etcd: watch %s: %s", one.begin, clip(h.reason)))
		one.retryAt = time.Now().Add(again)
		return nil
	case h.created && (h.header.revision < one.rev || h.header.cluster != one.cluster):
		// This member is behind what we have seen, or has lost it: the listing, which asks the leader, knows.
		one.retryAt = time.Now().Add(again)
		return s.forget(one)
	case h.created:
		one.dirty = true // says, if nothing else, that it works again
	case len(h.events) == 0: // "progress"
		one.rev = max(one.rev, h.header.revision)
		return nil
	case slices.ContainsFunc(h.events, func(e event) bool { return !one.asked(e.pair) }):
		return errWire
	default:
		one.apply(h)
		if one.suspect && one.retryAt.IsZero() {
			one.retryAt = time.Now().Add(again)
		}
	}
	s.flushSoon()
	return nil
}

func (s *session) flushSoon() {
	if !s.armed {
		s.armed = true
		s.flush.Reset(settle)
	}
}

// nonsense reports whether a session has ended because of what came, rather than because nothing came any more.
func nonsense(err error) bool {
	if e, ok := errors.AsType[*grpcio.Error](err); ok {
		return e.Code == grpcio.Internal || e.Code == grpcio.Unknown || e.Code == grpcio.ResourceExhausted
	}
	_, network := errors.AsType[net.Error](err)
	return !network && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, errEnded)
}

// look tries again what is due.
func (s *session) look(now time.Time) error {
	for one := range s.subs {
		if !one.retryAt.IsZero() && now.After(one.retryAt) {
			if err := s.forget(one); err != nil {
				return err
			}
			s.list(one)
		}
		if !one.heldTo.IsZero() && now.After(one.heldTo) {
			one.publish()
		}
	}
	return nil
}
