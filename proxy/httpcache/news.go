package httpcache

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

const (
	maxNotices = 1024             // that are remembered for who has been away; who has missed more is told to forget everything
	maxAsking  = 10_000           // peers that wait for news of one app; more are refused, and ask again later
	holdNews   = 45 * time.Second // for which a question waits for news
)

// board is where the sidecar of an app says what of its answers has changed. Peers that keep such answers ask it for what is new since a position, and wait.
// A position that it does not know (of an earlier run, or too old) is answered with "all": forget everything.
type board struct {
	position atomic.Pointer[string] // of the last notice

	mu     sync.Mutex // never held over a wait
	epoch  string     // positions of others are of no use
	last   uint64
	log    []string // the last notices, oldest first; never longer than maxNotices
	asking map[*waiter]struct{}
	closed bool
}

func newBoard() *board {
	b := &board{asking: make(map[*waiter]struct{})}
	b.renew()
	return b
}

// renew makes all positions useless: something may have changed that was not told.
func (b *board) renew() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch, b.last, b.log = rand.Text(), 0, nil
	b.moveLocked()
	b.wakeLocked(nil)
}

func (b *board) moveLocked() {
	p := b.epoch + "." + strconv.FormatUint(b.last, 10)
	b.position.Store(&p)
}

// publish adds a notice and wakes who waits. here is the shard on which it is called, or nil.
func (b *board) publish(notice string, here task.Shard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.log) == maxNotices {
		b.log = append(b.log[:0:0], b.log[maxNotices/4:]...)
	}
	b.log = append(b.log, notice)
	b.last++
	b.moveLocked()
	b.wakeLocked(here)
}

func (b *board) wakeLocked(here task.Shard) {
	for w := range b.asking {
		w.wake(here)
	}
	clear(b.asking)
}

// close answers all who wait, and refuses the others: the sidecar stops.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.wakeLocked(nil)
}

// since returns the notices after a position, one a line, and the position after them. If there are none and w is not nil, w is woken once there are.
func (b *board) since(position string, w *waiter) (notices, now string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return "", "", &proxy.Error{Code: proxy.Draining, Unsent: true, Detail: "this sidecar is stopping"}
	}
	now = *b.position.Load()
	epoch, text, _ := strings.Cut(position, ".")
	n, bad := strconv.ParseUint(text, 10, 64)
	missed := b.last - n
	switch {
	case bad != nil || epoch != b.epoch || n > b.last || missed > uint64(len(b.log)):
		return noticeAll + "\n", now, nil
	case missed > 0:
		return strings.Join(b.log[uint64(len(b.log))-missed:], "\n") + "\n", now, nil
	case len(b.asking) >= maxAsking && w != nil:
		return "", "", &proxy.Error{Code: proxy.Overloaded, Unsent: true, Detail: "more peers than may wait for news of this app"}
	case w != nil:
		b.asking[w] = struct{}{}
	}
	return "", now, nil
}

func (b *board) forget(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.asking, w)
}

// peers is how many wait for news.
func (b *board) peers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asking)
}

// asking is a question that waits.
type asking struct {
	*waiter
	gone atomic.Bool
}

// Canceled implements proxy.Canceled: the peer has left.
func (a *asking) Canceled(error) {
	a.gone.Store(true)
	a.wake(nil)
}

// News answers the questions of peers (proxy.Request.News) about the answers of an app, which has this name in LayerConfig.
func (c *Cache) News(app string) proxy.RoundTripper {
	b := c.site(app).boardOf()
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		notices, now, err := b.await(req)
		if err != nil {
			return err
		}
		resp.Status, resp.Version, resp.Length = 200, proxy.HTTP11, int64(len(notices))
		resp.Fields.Add("Cache-Control", "no-store")
		resp.Fields.Add(proxy.NewsField, now)
		if notices != "" {
			told := &content{chunks: [][]byte{[]byte(notices)}, n: int64(len(notices)), done: true}
			told.complete.Store(true)
			r := &reader{}
			r.open(told, 0, told.n, req)
			resp.Body = r
			resp.OnClose(r)
		}
		return nil
	})
}

// await waits for news until a question has been open for long enough.
func (b *board) await(req *proxy.Request) (notices, now string, err error) {
	a := &asking{waiter: newWaiter(req.Shard)}
	if req.Cancel != nil {
		if _, err := req.Cancel.Watch(a); err != nil {
			return "", "", err
		}
		defer req.Cancel.Unwatch(a)
	}
	defer b.forget(a.waiter)
	until := req.Shard.Now().Add(holdNews)
	for {
		notices, now, err = b.since(req.News, a.waiter)
		switch {
		case err != nil || notices != "":
			return notices, now, err
		case a.gone.Load():
			return "", "", errGone
		case !a.gate.Wait(until):
			return "", now, nil
		}
	}
}

// The kinds of notices, one a line, with a digest behind the first two.
const (
	noticePath = "path " // all that has this path, of whatever authority
	noticeTag  = "tag "  // all that has this surrogate key
	noticeAll  = "all"
)

// boardOf returns the site's board, which it makes if there is none.
func (s *site) boardOf() *board {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.board.Load(); b != nil {
		return b
	}
	b := newBoard()
	s.board.Store(b)
	return b
}

// Quit says that an app's answers are not kept from now on: what changes is not known any more, so that its peers must forget what they have of it once it is asked again.
func (c *Cache) Quit(app string) {
	if b := c.site(app).board.Load(); b != nil {
		b.renew()
	}
}

// StopTelling ends all questions of peers that wait, before this sidecar stops.
func (c *Cache) StopTelling() {
	for _, s := range c.sites() {
		if b := s.board.Load(); b != nil {
			b.close()
		}
	}
}

// tell publishes a notice on the boards of the apps that want chooses.
func (c *Cache) tell(notice string, want func(app string) bool) {
	for _, s := range c.sites() {
		if b := s.board.Load(); b != nil && want(s.name) {
			s.counters.told.Add(1)
			b.publish(notice, nil)
		}
	}
}

// text is a digest as it is told.
func (d digest) text() string { return hex.EncodeToString(d[:]) }
