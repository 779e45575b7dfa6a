package quiclink

import (
	"context"
	"fmt"
	"time"

	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// path watches whether the peer answers. Owned by callbacks of the far shard, but for what says otherwise.
//
//	good     something came since we last sent, or it is not long ago
//	suspect  packets went out and nothing came for Config.SuspectAfter: no new requests, another path is tried
//
// A packet that arrives makes a suspect path good again. QUIC itself ends the connection after Config.DeadAfter.
type path struct {
	received uint64       // packets, at the last look
	sent     uint64       // packets, when something was last received
	heard    task.Instant // when that was
	trying   bool         // a task has to do with other paths
	again    task.Instant // when another one may be tried
	timer    task.Timer   // of the next look
	asked    bool         // whether anybody listens, since something was last heard
}

// askAfter is how long packets may go unanswered before the machine is asked whether anybody listens.
const askAfter = 250 * time.Millisecond

// rest arms the next look: soon where something runs, late where nothing does, until somebody calls hurry.
func (l *Link) rest() {
	l.lazy.Store(true)
	every := min(l.d.cfg.SuspectAfter, l.d.cfg.PingIdle)
	if l.conn.Stats().Streams > 0 || l.suspect.Load() {
		l.lazy.Store(false)
		every = min(l.d.cfg.SuspectAfter/8, askAfter)
	}
	l.path.timer = l.far.After(every, l.look)
}

// hurry is called when something is going to run, on any shard.
func (l *Link) hurry() {
	if l.lazy.Load() && l.lazy.CompareAndSwap(true, false) {
		l.far.Post(func() {
			l.path.timer.Stop()
			l.path.timer = l.far.After(min(l.d.cfg.SuspectAfter/8, askAfter), l.look)
		})
	}
}

// watch begins to look.
func (l *Link) watch() {
	l.far.Post(func() {
		l.path.heard = l.far.Now()
		l.look()
		l.busy(l.prepare)
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
		l.doubt(now)
	case now.Sub(p.heard) >= max(askAfter, 3*st.SmoothedRTT) && !p.asked:
		p.asked = true
		l.far.Go(l.ask)
	}
	l.rest()
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
func (l *Link) doubt(now task.Instant) {
	if l.suspect.CompareAndSwap(false, true) {
		l.d.cfg.Logger.Info("the path to the peer does not answer", "peer", &l.ep, "transport", "quic")
		l.d.cfg.Suspect(&l.ep, http3.ErrSilence)
		l.changed()
	}
	if now >= l.path.again {
		l.path.again = now.Add(l.d.cfg.SuspectAfter)
		l.busy(l.move)
	}
}

// busy runs f as the one far task that has to do with other paths, unless there is one.
func (l *Link) busy(f func() error) {
	if l.path.trying {
		return
	}
	l.path.trying = true
	l.far.Go(func() {
		if err := f(); err != nil {
			l.d.cfg.Logger.Debug("no other path to the peer", "peer", &l.ep, "err", err)
		}
		l.far.Post(func() { l.path.trying = false })
	})
}

// move switches to the other path, and gets the next one ready. RFC 9000 section 9.
func (l *Link) move() error {
	if l.spare == nil {
		if err := l.prepare(); err != nil {
			return err
		}
	}
	if err := l.spare.Switch(); err != nil {
		l.spare = nil
		return fmt.Errorf("switch to a path: %w", err)
	}
	l.at, l.spare = l.at+1, nil
	l.moves.Add(1)
	l.d.cfg.Logger.Info("the link tries another path", "peer", &l.ep)
	return l.prepare()
}

// probeTime is how long a path is probed.
const probeTime = 5 * time.Second

// prepare validates a path over the next socket while the present one works: once nothing is acknowledged any more, and the
// congestion window is full, QUIC sends no probes.
func (l *Link) prepare() error {
	t, err := l.d.socket(l.at + 1)
	if err != nil {
		return err
	}
	p, err := l.q.AddPath(&t.Transport)
	if err != nil {
		return fmt.Errorf("add a path: %w", err)
	}
	ctx, cancel := context.WithTimeout(l.q.Context(), probeTime)
	defer cancel()
	if err := p.Probe(ctx); err != nil {
		_ = p.Close()
		return fmt.Errorf("probe a path: %w", err)
	}
	l.spare = p
	return nil
}
