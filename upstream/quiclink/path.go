package quiclink

import (
	"context"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/pillion-proxy/pillion/proxy/http3"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// path watches whether the peer answers. Owned by callbacks of the far shard, but for what says otherwise.
//
//	good     what was sent has been answered, or it is not long ago
//	suspect  something waits for an answer since Config.SuspectAfter, and is repeated: no new requests, another path is tried
//
// An answer is an acknowledgement of something, which QUIC shows as a sample of the round-trip time; other packets may arrive over a path that
// loses all of ours. A lone acknowledgement wants no answer. There is at most one for each packet received, so whoever sends more than that wants
// answers, and repeats what it wants them to. An answer makes a suspect path good again. After Config.DeadAfter the connection is ended.
type path struct {
	last    quic.ConnectionStats // at the last look
	at      task.Instant         // when that was
	waiting bool                 // something waits for an answer
	heard   task.Instant         // waiting: since when
	urged   task.Instant         // waiting: when packets that want an answer last went out
	trying  bool                 // a task has to do with other paths
	again   task.Instant         // when another one may be tried
	timer   task.Timer           // of the next look
	asked   bool                 // whether anybody listens, since something was last heard
}

// askAfter is how long packets may go unanswered before the machine is asked whether anybody listens.
const askAfter = 250 * time.Millisecond

// rest arms the next look: soon where something runs, late where nothing does, until somebody calls hurry.
func (l *Link) rest() {
	l.lazy.Store(true)
	every := min(l.d.cfg.SuspectAfter, l.d.cfg.PingIdle)
	if l.conn.Stats().Streams > 0 || l.path.waiting || l.suspect.Load() {
		l.lazy.Store(false)
		every = l.d.soon()
	}
	l.path.timer = l.far.After(every, l.look)
}

// soon is the time between looks while something runs.
func (d *Dialer) soon() time.Duration { return min(d.cfg.SuspectAfter/8, askAfter) }

// hurry is called when something is going to run, on any shard.
func (l *Link) hurry() {
	if l.lazy.Load() && l.lazy.CompareAndSwap(true, false) {
		l.far.Post(func() {
			l.path.timer.Stop()
			l.path.timer = l.far.After(l.d.soon(), l.look)
		})
	}
}

// watch begins to look.
func (l *Link) watch() {
	l.far.Post(func() {
		l.path.last, l.path.at = l.q.ConnectionStats(), l.far.Now()
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
	st, now := l.q.ConnectionStats(), l.far.Now()
	l.path.note(st, now, l.d.soon())
	if !l.path.waiting && l.suspect.CompareAndSwap(true, false) {
		l.d.cfg.Logger.Info("the path to the peer answers again", "peer", &l.ep, "transport", "quic")
		l.changed()
	}
	if l.path.waiting {
		l.wait(now.Sub(l.path.heard), st.SmoothedRTT, now)
	}
	l.rest()
}

// note takes in what QUIC has counted by now. Packets that want an answer went out at the earliest soon ago, or at the last look if that is later.
func (p *path) note(st quic.ConnectionStats, now task.Instant, soon time.Duration) {
	last, at := p.last, p.at
	p.last, p.at = st, now
	if answered(last, st) {
		p.waiting, p.asked = false, false
		return
	}
	// One acknowledgement may be of a packet that came before the last look.
	if st.PacketsSent-last.PacketsSent > st.PacketsReceived-last.PacketsReceived+1 {
		if p.urged = now; !p.waiting {
			p.waiting, p.heard = true, max(at, now.Add(-soon))
		}
		return
	}
	// What waits is repeated, at intervals that double. Otherwise its answer came in a way that gave no sample.
	if p.waiting && now.Sub(p.heard) > stale+3*p.urged.Sub(p.heard) {
		p.waiting, p.asked = false, false
	}
}

// stale is how long something may go without being repeated, at least, and still wait for an answer.
const stale = time.Second

// answered reports whether the peer has acknowledged something between two looks. Another path begins with
// a guess, which deviates by nothing.
func answered(last, st quic.ConnectionStats) bool {
	return st.MeanDeviation != 0 &&
		(st.LatestRTT != last.LatestRTT || st.SmoothedRTT != last.SmoothedRTT || st.MeanDeviation != last.MeanDeviation)
}

// wait is called while something has not been answered for d.
func (l *Link) wait(d, rtt time.Duration, now task.Instant) {
	switch {
	case d >= max(l.d.cfg.DeadAfter, 4*rtt):
		l.d.cfg.Logger.Info("the peer is gone", "peer", &l.ep, "why", http3.ErrSilence)
		l.conn.Close()
	case d >= max(l.d.cfg.SuspectAfter, 4*rtt):
		l.doubt(now)
	case d >= max(askAfter, 3*rtt) && !l.path.asked:
		l.path.asked = true
		l.far.Go(l.ask)
	}
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
