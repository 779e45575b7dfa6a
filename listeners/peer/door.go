package peer

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"
)

// door bounds the handshakes under way, in two stages, so that connections that say nothing, or nothing after a
// ClientHello, do not keep peers out:
//
//	silent    before the whole ClientHello, or waiting for a slot: silentFactor times the slots; at the bound the oldest is closed
//	admitted  from there on: one slot each; when all are taken, one that has lasted for slowAfter is closed for the next
//
// What is closed is not logged one by one. Each handshake has an ordinary goroutine, which calls these methods.
type door struct {
	slots chan struct{}
	log   *slog.Logger

	mu       sync.Mutex
	silent   list.List // of *knocking, oldest first
	admitted list.List
	shed     int       // closed and not yet told of
	told     time.Time // when an operator was last told
}

// knocking is one handshake. Its fields are guarded by the door's mutex, but for raw.
type knocking struct {
	raw  net.Conn
	at   *list.Element // where it is now; nil at the end
	in   *list.List
	when time.Time // since when
	shed bool
}

const (
	silentFactor = 4
	slowAfter    = 2 * time.Second        // a round trip, and the check of a certificate, take less
	lookForSlow  = 100 * time.Millisecond // while one waits for a slot
	tellEvery    = time.Minute
)

func newDoor(slots int, log *slog.Logger) *door {
	return &door{slots: make(chan struct{}, slots), log: log}
}

// knock begins a handshake on raw.
func (d *door) knock(raw net.Conn) *knocking {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &knocking{raw: raw}
	d.move(h, &d.silent)
	if d.silent.Len() > silentFactor*cap(d.slots) {
		d.close(d.silent.Front().Value.(*knocking))
	}
	return h
}

// admit waits for a slot, on the handshake's ordinary goroutine. It is called once the peer's ClientHello is there, whose bytes are all that an attacker has to pay.
func (d *door) admit(ctx context.Context, h *knocking) error {
	for {
		select {
		case d.slots <- struct{}{}:
			d.mu.Lock()
			defer d.mu.Unlock()
			d.move(h, &d.admitted)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookForSlow):
			d.closeSlow()
		}
	}
}

// closeSlow closes the oldest of the admitted if it is slow.
func (d *door) closeSlow() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.admitted.Front(); e != nil && time.Since(e.Value.(*knocking).when) >= slowAfter {
		d.close(e.Value.(*knocking))
	}
}

// leave ends a handshake, on its ordinary goroutine, and reports whether it was closed for others.
func (d *door) leave(h *knocking) (shed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.in == &d.admitted {
		<-d.slots
	}
	if h.at != nil && !h.shed {
		h.in.Remove(h.at)
	}
	h.in, h.at = nil, nil
	return h.shed
}

// move puts h last into l. The caller holds the mutex.
func (d *door) move(h *knocking, l *list.List) {
	if h.at != nil && !h.shed {
		h.in.Remove(h.at)
	}
	h.in, h.when = l, time.Now()
	if !h.shed {
		h.at = l.PushBack(h)
	}
}

// close closes h's connection; its goroutine will leave. The caller holds the mutex.
func (d *door) close(h *knocking) {
	h.in.Remove(h.at)
	h.shed = true
	h.raw.Close()
	d.shed++
	if now := time.Now(); now.Sub(d.told) >= tellEvery {
		d.log.Warn("connections to the peer port that do not go on with their handshake were closed to let others in",
			"closed", d.shed, "the last from", h.raw.RemoteAddr())
		d.told, d.shed = now, 0
	}
}

// handshaking is the number of handshakes under way.
func (d *door) handshaking() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.silent.Len() + d.admitted.Len()
}

// watched is cfg for h's handshake.
func (d *door) watched(ctx context.Context, cfg *tls.Config, h *knocking) *tls.Config {
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, d.admit(ctx, h) }
	return cfg
}
