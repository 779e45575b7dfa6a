package quiclink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// path watches whether the peer answers. Owned by callbacks of the far shard, but for what says otherwise.
//
//	good     something came since we last sent, or it is not long ago
//	suspect  packets went out and nothing came for Config.SuspectAfter: no new requests, other paths are tried
//
// A packet that arrives makes a suspect path good again. QUIC itself ends the connection after Config.DeadAfter.
type path struct {
	received uint64       // packets, at the last look
	sent     uint64       // packets, when something was last received
	heard    task.Instant // when that was
	trying   bool         // another path is being tried
	asked    bool         // whether anybody listens, since something was last heard
}

// askAfter is how long packets may go unanswered before the machine is asked whether anybody listens.
const askAfter = 250 * time.Millisecond

// looks is how often a Link is looked at: often enough to find out in time that it does not answer, seldom when nothing runs.
func (l *Link) looks() time.Duration {
	every := l.d.cfg.SuspectAfter / 8
	if l.conn.Stats().Streams == 0 && !l.suspect.Load() {
		every = max(every, l.d.cfg.SuspectAfter)
	}
	return every
}

// watch begins to look.
func (l *Link) watch() {
	l.far.Post(func() {
		l.path.heard = l.far.Now()
		l.look()
	})
}

// look is a callback, until the connection has ended.
func (l *Link) look() {
	select {
	case <-l.q.Context().Done():
		return
	default:
	}
	p, st, now := &l.path, l.q.ConnectionStats(), l.far.Now()
	switch {
	case st.PacketsReceived != p.received:
		p.received, p.sent, p.heard, p.asked = st.PacketsReceived, st.PacketsSent, now, false
		if l.suspect.CompareAndSwap(true, false) {
			l.d.cfg.Logger.Info("the path to the peer answers again", "peer", &l.ep, "transport", "quic")
			l.changed()
		}
	case st.PacketsSent == p.sent: // silence on both sides
		p.heard = now
	case now.Sub(p.heard) >= max(l.d.cfg.SuspectAfter, 4*st.SmoothedRTT):
		l.doubt()
	case now.Sub(p.heard) >= max(askAfter, 3*st.SmoothedRTT) && !p.asked:
		p.asked = true
		l.far.Go(l.ask)
	}
	l.far.After(l.looks(), l.look)
}

// ask is a far task that ends the connection if the machine says that nobody listens any more.
func (l *Link) ask() {
	ctx, cancel := context.WithTimeout(l.q.Context(), l.d.cfg.SuspectAfter)
	defer cancel()
	if err := hark(ctx, l.ep.Addr); err != nil {
		l.d.cfg.Logger.Info("the peer is gone", "peer", &l.ep, "why", err)
		l.conn.Close()
	}
}

// doubt is called while the path does not answer.
func (l *Link) doubt() {
	if l.suspect.CompareAndSwap(false, true) {
		l.d.cfg.Logger.Info("the path to the peer does not answer", "peer", &l.ep, "transport", "quic")
		l.d.cfg.Suspect(&l.ep, http3.ErrSilence)
		l.changed()
	}
	if !l.path.trying {
		l.path.trying = true
		l.far.Go(l.tryPath)
	}
}

// tryPath is a far task that looks for another path, and goes on there.
func (l *Link) tryPath() {
	err := l.move()
	if err == nil {
		l.moves.Add(1)
		l.d.cfg.Logger.Info("the link goes on over another path", "peer", &l.ep, "from", l.q.LocalAddr())
	} else {
		l.d.cfg.Logger.Debug("no other path to the peer", "peer", &l.ep, "err", err)
	}
	l.far.Post(func() { l.path.trying = false })
}

// move probes the peer from a new socket, and switches to it. RFC 9000 section 9.1. It runs on an ordinary goroutine.
func (l *Link) move() error {
	t, err := l.d.transport()
	if err != nil {
		return err
	}
	p, err := l.q.AddPath(&t.Transport)
	if err != nil {
		t.Close()
		return fmt.Errorf("add a path: %w", err)
	}
	ctx, cancel := context.WithTimeout(l.q.Context(), 2*l.d.cfg.SuspectAfter)
	defer cancel()
	err = p.Probe(ctx)
	if err == nil {
		err = p.Switch()
	}
	if err != nil {
		if cerr := p.Close(); cerr != nil && !errors.Is(cerr, quic.ErrPathClosed) {
			err = errors.Join(err, cerr)
		}
		t.Close()
		return fmt.Errorf("probe a path: %w", err)
	}
	context.AfterFunc(l.q.Context(), t.Close) // it has no other connection
	return nil
}
