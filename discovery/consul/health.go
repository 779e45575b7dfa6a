package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// Query says which instances of a service count.
type Query struct {
	// Service is its name in Consul.
	Service string
	// Tags are what an instance must have, all of them.
	Tags []string
	// Datacenter, if not empty, is where to look, instead of the Client's.
	Datacenter string
	// Port, if not 0, is that of each instance, instead of the registered one.
	Port uint16
	// Defaults complete what Consul does not say.
	Defaults discovery.Defaults
}

// Resolver follows one service, for whichever Service it is asked.
type Resolver struct {
	client *Client
	query  Query
	values url.Values
}

// Resolver returns one for q.
func (c *Client) Resolver(q Query) (*Resolver, error) {
	if q.Service == "" {
		return nil, errors.New("consul: the name of the service is empty")
	}
	v := url.Values{"passing": {"1"}, "tag": q.Tags}
	if dc := q.Datacenter; dc != "" {
		v.Set("dc", dc)
	} else if dc := c.conf.Datacenter; dc != "" {
		v.Set("dc", dc)
	}
	return &Resolver{client: c, query: q, values: v}, nil
}

const (
	// calm is the least time between two questions: a service may change more often than anybody wants to hear of.
	calm = 100 * time.Millisecond
	// firstPause and lastPause bound the pause after a failure: it doubles, and a server that is back is noticed within a second.
	firstPause = 50 * time.Millisecond
	lastPause  = 700 * time.Millisecond
	// patience is what an answer may take beyond the time that it was allowed to wait.
	patience = 5 * time.Second
	// late is what it may take until the question is asked once more, beside, as the answer may be lost; and afresh is how often that is done.
	late   = 400 * time.Millisecond
	afresh = time.Second
	// lively is the least time that an answer may wait, which is while a service changes: a change whose answer is lost is then seen within a second.
	lively = 500 * time.Millisecond
)

// watch is what is remembered between two questions.
type watch struct {
	*Resolver
	update  func([]proxy.Endpoint)
	entries discovery.Entries
	index   uint64        // of what we have; 0: nothing, so that the next answer comes at once
	fresh   bool          // the next question is for the leader
	taken   bool          // there was a set
	held    time.Duration // how long an empty one is still doubted
	changed time.Time     // when the index last became another
}

// Watch implements discovery.Resolver.
func (r *Resolver) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	c := r.client
	c.users.Add(1)
	defer c.users.Add(-1)
	w := &watch{Resolver: r, update: update}
	pause := firstPause
	for {
		wait := calm
		began := time.Now()
		if err := w.step(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			w.entries.Doubt()
			discovery.Report(ctx, err)
			wait, pause = pause, min(2*pause, lastPause)
		} else if pause = firstPause; time.Since(began) > time.Second {
			wait = 0 // nothing has happened for long
		}
		if !discovery.Sleep(ctx, wait+rand.N(wait/4+1)) {
			return ctx.Err()
		}
	}
}

// step asks once and uses the answer.
func (w *watch) step(ctx context.Context) error {
	head, data, err := w.ask(ctx)
	if err != nil {
		return err
	}
	index, err := strconv.ParseUint(head.Get("X-Consul-Index"), 10, 64)
	if err != nil {
		return fmt.Errorf("consul at %s: the answer has no index: this is no Consul", w.client.conf.Address)
	}
	// "Sanity check index is greater than zero": 0 would not wait.
	index = max(index, 1)
	switch {
	case index < w.index:
		// "Reset the index if it goes backwards." What this server knows may be older than what we have; the leader knows better.
		w.index, w.fresh = 0, true
		w.entries.Doubt()
		return nil
	case head.Get("X-Consul-Knownleader") == "false" && head.Get("X-Consul-Query-Backend") != "streaming" && w.taken: // a streaming agent never says true
		return errors.New("consul has no leader; what it knows may be old")
	case head.Get("X-Consul-Results-Filtered-By-Acls") == "true":
		return fmt.Errorf("consul at %s: the token may not read all of %s: it needs service:read and node:read", w.client.conf.Address, w.query.Service)
	}
	if index != w.index || !w.taken {
		all, err := parse(data)
		if err != nil {
			return fmt.Errorf("consul at %s: %w", w.client.conf.Address, err)
		}
		if len(all) == 0 && w.entries.Len() > 0 && !w.fresh {
			w.index, w.fresh = 0, true // that nobody is left, we want to hear from the leader
			return nil
		}
		w.take(all)
	}
	if index != w.index {
		w.changed = time.Now()
	}
	w.index, w.fresh, w.taken = index, false, true
	w.held = w.entries.Publish(ctx, w.update)
	return nil
}

// ask sends the question, when it is our turn.
func (w *watch) ask(ctx context.Context) (http.Header, []byte, error) {
	c := w.client
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	wait := time.Duration(0)
	if w.index > 0 {
		wait = w.wait()
	}
	// "A small random amount of additional wait time is added", up to a sixteenth.
	wait16 := wait + wait/16
	ctx, cancel := context.WithTimeout(ctx, wait16+patience)
	defer cancel()
	second := w.askAgain(ctx, cancel, wait16+late)
	head, data, err := w.send(ctx, wait)
	if again := second.end(); again.err == nil && err != nil {
		return again.head, again.data, nil
	}
	return head, data, err
}

// send asks for what is there once it is not as of our index any more, or wait has passed; for what is there now if that is 0.
func (w *watch) send(ctx context.Context, wait time.Duration) (http.Header, []byte, error) {
	v := make(url.Values, len(w.values)+3)
	for k, all := range w.values {
		v[k] = all
	}
	if wait > 0 {
		v.Set("index", strconv.FormatUint(w.index, 10))
		v.Set("wait", strconv.FormatInt(wait.Milliseconds(), 10)+"ms")
	}
	if !w.fresh {
		v.Set("stale", "")
	}
	return w.client.do(ctx, http.MethodGet, "/v1/health/service/"+url.PathEscape(w.query.Service), v, nil)
}

// again is a question that is asked beside one whose answer is late.
type again struct {
	timer *time.Timer
	stop  context.CancelFunc
	ended chan struct{} // closed when the timer's function has ended

	// Of the timer's function until then.
	head http.Header
	data []byte
	err  error
}

var errNotAsked = errors.New("not asked again")

// askAgain asks for what is there now, unless end is called before that; when there is an answer, the first question is of no use any more.
func (w *watch) askAgain(ctx context.Context, answered context.CancelFunc, after time.Duration) *again {
	a := &again{ended: make(chan struct{}), err: errNotAsked}
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.timer = time.AfterFunc(after, func() {
		defer close(a.ended)
		for ctx.Err() == nil {
			if a.ask(ctx, w); a.err == nil {
				answered()
				return
			}
			discovery.Sleep(ctx, calm)
		}
	})
	return a
}

func (a *again) ask(ctx context.Context, w *watch) {
	ctx, cancel := context.WithTimeout(ctx, afresh)
	defer cancel()
	a.head, a.data, a.err = w.send(ctx, 0)
}

// end returns a once it has ended.
func (a *again) end() *again {
	if !a.timer.Stop() {
		a.stop()
		<-a.ended
	}
	a.stop()
	return a
}

// wait is how long the answer may wait for a change: half the time since the last one, less where many take turns, and where an empty answer is to be
// believed later. So a change that is missed is missed for half as long as there was none before, and a service that never changes costs a question in ten seconds.
func (w *watch) wait() time.Duration {
	wait, users, slots := w.client.conf.Wait, w.client.users.Load(), int64(w.client.conf.Slots)
	if users > slots {
		wait = max(wait*time.Duration(slots)/time.Duration(users), time.Second)
	} else {
		wait = min(wait, max(lively, time.Since(w.changed)/2))
	}
	if w.held > 0 {
		wait = min(wait, w.held+time.Millisecond)
	}
	return wait
}
