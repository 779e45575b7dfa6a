package xds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http/httptrace"
	"slices"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/discovery/grpcio"
)

const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

// session is what is known while anything is watched: streams come and go, and this stays.
type session struct {
	client *Client
	cancel context.CancelFunc
	kicked chan struct{} // one slot: the subscriptions have changed
	done   chan struct{} // closed when run has ended

	// Owned by run.
	delta       bool
	good        bool // something was understood since the last failure
	clusters    store[*cluster]
	assignments store[*assignment]
	failed      time.Time // the end of the last stream; zero if there was none
	broken      error     // why there is no stream; nil while there is one
}

// store are the resources of one type.
type store[T any] struct {
	kind string
	all  map[string]*entryOf[T]
	// Of the present stream.
	asked   []string // the names subscribed to, in order
	first   bool     // no response was taken yet
	nonce   string   // state of the world: of the last response
	version string   // state of the world: that was last taken, on this stream or one before
}

// entryOf is one resource.
//
//	asked ──a good one──▶ there ──removed, or missing from a whole──▶ gone
//	                        │  ▲                                       ▲
//	                        ▼  │                    after Config.Grace │
//	                      doubtful: see remove ────────────────────────┘
type entryOf[T any] struct {
	value    T
	state    state
	version  string // delta
	refused  error  // why the last one was not taken
	asked    time.Time
	doubtful time.Time // since when; zero if it is not
}

type state int

const (
	asked state = iota
	there
	gone
)

func newSession(c *Client, cancel context.CancelFunc) *session {
	return &session{
		client: c, cancel: cancel, kicked: make(chan struct{}, 1), done: make(chan struct{}), delta: c.conf.Mode != State,
		clusters:    store[*cluster]{kind: clusterType, all: make(map[string]*entryOf[*cluster])},
		assignments: store[*assignment]{kind: assignmentType, all: make(map[string]*entryOf[*assignment])},
	}
}

func (s *session) kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// run keeps a stream to the control plane until ctx ends.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	const most = time.Second // between attempts
	pause := s.client.conf.Retry
	for {
		err := s.converse(ctx)
		if ctx.Err() != nil {
			return
		}
		if grpcio.CodeOf(err) == grpcio.Unimplemented && s.delta && s.client.conf.Mode == Auto {
			s.delta = false
			continue
		}
		if s.good {
			pause, s.good = s.client.conf.Retry, false
		}
		s.failed = time.Now()
		s.broken = fmt.Errorf("%w", err) // a pointer, so that views can be compared
		s.show()
		if !discovery.Sleep(ctx, pause-pause/4+rand.N(pause/4+1)) {
			return
		}
		pause = min(2*pause, most)
	}
}

// incoming is one message, or the end of the stream.
type incoming struct {
	message []byte
	err     error
}

// converse opens one stream and follows it to its end.
func (s *session) converse(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("pillion panicked at what the control plane says: %v", p)
		}
	}()
	meta, err := s.client.metadata()
	if err != nil {
		return err
	}
	method := service + "StreamAggregatedResources"
	if s.delta {
		method = service + "DeltaAggregatedResources"
	}
	connected := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		select {
		case connected <- struct{}{}:
		default:
		}
	}}))
	defer cancel()
	stream, err := s.client.grpc.Stream(ctx, method, meta)
	if err != nil {
		return err
	}
	messages := make(chan incoming)
	received := make(chan struct{})
	go receive(ctx, stream, messages, received)
	defer func() {
		stream.Close()
		cancel()
		<-received
	}()
	s.clusters.restart()
	s.assignments.restart()
	return s.follow(ctx, stream, messages, connected)
}

// receive reads messages until the stream ends.
func receive(ctx context.Context, stream *grpcio.Stream, messages chan<- incoming, ended chan<- struct{}) {
	defer close(ended)
	for {
		b, err := stream.Recv()
		select {
		case messages <- incoming{b, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// follow is the conversation.
func (s *session) follow(ctx context.Context, stream *grpcio.Stream, messages <-chan incoming, connected <-chan struct{}) error {
	tick := time.NewTicker(min(5*time.Second, s.client.conf.Grace/4, s.client.conf.Patience/4))
	defer tick.Stop()
	var calm <-chan time.Time // a server that has nothing new says nothing: what is connected and stays so works
	for {
		if err := s.ask(stream); err != nil {
			return s.why(ctx, err, messages)
		}
		s.show()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.kicked:
		case <-connected:
			calm = time.After(time.Second)
		case <-calm:
			s.broken = nil
		case <-tick.C:
			s.expire()
		case in := <-messages:
			if in.err != nil {
				return ended(in.err)
			}
			s.broken = nil
			if err := s.take(stream, in.message); err != nil {
				return s.why(ctx, err, messages)
			}
		}
	}
}

// why is the reason for err of a Send: io.EOF means that Recv knows.
func (s *session) why(ctx context.Context, err error, messages <-chan incoming) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case in := <-messages:
			if in.err != nil {
				return ended(in.err)
			}
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the control plane has ended the stream")
	}
	return err
}

// ask subscribes to what is wanted and was not asked for yet, and unsubscribes from what is not wanted any more.
func (s *session) ask(stream *grpcio.Stream) error {
	if err := ask(s, stream, &s.clusters, s.wantedClusters()); err != nil {
		return err
	}
	return ask(s, stream, &s.assignments, s.wantedAssignments())
}

func (s *session) wantedClusters() []string {
	var names []string
	for _, sub := range s.client.subscriptions() {
		names = append(names, sub.cluster)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *session) wantedAssignments() []string {
	var names []string
	for _, name := range s.clusters.asked {
		if e := s.clusters.all[name]; e.state == there && e.value.assignment != "" {
			names = append(names, e.value.assignment)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ask sends a request for the difference between what is wanted and what was asked for. An empty list would mean everything, so that it is never the first, nor
// sent as a state of the world: what comes and is not wanted is not looked at.
func ask[T any](s *session, stream *grpcio.Stream, st *store[T], wanted []string) error {
	begins := st.asked == nil
	if wanted == nil {
		wanted = []string{}
	}
	if slices.Equal(wanted, st.asked) || len(wanted) == 0 && (begins || !s.delta) {
		return nil
	}
	r := request{kind: st.kind}
	if begins {
		r.node = &s.client.conf.Node
	}
	now := time.Now()
	for _, name := range wanted {
		if _, had := slices.BinarySearch(st.asked, name); had {
			continue
		}
		r.subscribe = append(r.subscribe, name)
		e := st.all[name]
		if e == nil {
			e = new(entryOf[T])
			st.all[name] = e
		}
		e.asked = now
	}
	for _, name := range st.asked {
		if _, still := slices.BinarySearch(wanted, name); !still {
			r.unsubscribe = append(r.unsubscribe, name)
			delete(st.all, name)
		}
	}
	if begins { // what the streams before have left, and nobody wants
		maps.DeleteFunc(st.all, func(name string, _ *entryOf[T]) bool { _, ok := slices.BinarySearch(wanted, name); return !ok })
		r.have = st.versions()
	}
	st.asked = wanted
	r.names, r.version, r.nonce = wanted, st.version, st.nonce
	if begins && !st.knows(wanted) {
		r.version = "" // of which the server would think that we have all of it
	}
	if s.delta {
		r.nonce = ""
	}
	return stream.Send(r.bytes(s.delta))
}

// restart forgets what was said on the last stream; the resources stay.
func (st *store[T]) restart() { st.asked, st.first, st.nonce = nil, true, "" }

func (st *store[T]) knows(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return st.all[name].state != there })
}

func (st *store[T]) versions() map[string]string {
	have := make(map[string]string)
	for name, e := range st.all {
		if e.state == there && e.version != "" {
			have[name] = e.version
		}
	}
	return have
}

// take takes a response and answers it.
func (s *session) take(stream *grpcio.Stream, message []byte) error {
	r, err := parseResponse(message, s.delta)
	if err != nil {
		return fmt.Errorf("the control plane: %w", err)
	}
	reply := request{kind: r.kind, nonce: r.nonce}
	switch r.kind {
	case clusterType:
		reply.refused = apply(s, &s.clusters, r, func(b []byte) (*cluster, string, error) {
			c, err := parseCluster(b)
			return c, c.name, err
		})
		if !s.delta {
			s.missing(r)
		}
		reply.names, reply.version = s.clusters.asked, s.clusters.version
		s.clusters.first = false
	case assignmentType:
		reply.refused = apply(s, &s.assignments, r, func(b []byte) (*assignment, string, error) {
			a, err := parseAssignment(b)
			return a, a.name, err
		})
		reply.names, reply.version = s.assignments.asked, s.assignments.version
		s.assignments.first = false
	default:
		return fmt.Errorf("the control plane: resources of the type %q were not asked for", clip(r.kind))
	}
	s.good = s.good || reply.refused == nil
	return stream.Send(reply.bytes(s.delta))
}

// apply takes the resources that are asked for and good. The error says why others were not taken.
func apply[T any](s *session, st *store[T], r *response, parse func([]byte) (T, string, error)) error {
	st.nonce = r.nonce
	var refused error
	seen := make(map[string]bool)
	for i := range r.resources {
		x := &r.resources[i]
		value, name, err := parse(x.body)
		if x.name != "" && name == "" {
			name = x.name
		}
		e := st.all[name]
		if e == nil && name != "" {
			continue // not asked for
		}
		switch {
		case x.kind != st.kind:
			err = fmt.Errorf("the type is %q", clip(x.kind))
		case err == nil && x.name != "" && x.name != name:
			err = fmt.Errorf("it is called %q there", clip(x.name))
		case err == nil && seen[name]:
			err = errors.New("it is there twice")
		}
		seen[name] = true
		if err != nil {
			refused = errors.Join(refused, fmt.Errorf("%q: %w", clip(name), err))
		}
		if e == nil {
			continue
		}
		e.doubtful = time.Time{}
		if e.refused = err; err == nil {
			e.value, e.state, e.version = value, there, x.version
		}
	}
	for _, name := range r.removed {
		if e := st.all[name]; e != nil {
			e.remove(st.first || st.kind == assignmentType)
		}
	}
	if refused == nil {
		st.version = r.version
	}
	return refused
}

// missing finds clusters that a state of the world is without. (An assignment may be left out when it has not changed.)
func (s *session) missing(r *response) {
	listed := make(map[string]bool)
	for i := range r.resources {
		c, _ := parseCluster(r.resources[i].body)
		listed[c.name] = true
	}
	for name, e := range s.clusters.all {
		if _, ok := slices.BinarySearch(s.clusters.asked, name); ok && !listed[name] && !listed[""] {
			e.remove(s.clusters.first)
		}
	}
}

// remove notes that the server does not have the resource. It may be doubtful: what it had before a reconnect it may not have loaded yet, and an assignment
// that goes before its cluster does, or before that names another, is one of two halves of a change.
func (e *entryOf[T]) remove(doubtful bool) {
	switch {
	case e.state == there && doubtful:
		if e.doubtful.IsZero() {
			e.doubtful = time.Now()
		}
	case e.doubtful.IsZero():
		e.state, e.version = gone, ""
	}
}

// expire believes what has been missing for long enough.
func (s *session) expire() {
	expire(&s.clusters, s.client.conf.Grace)
	expire(&s.assignments, s.client.conf.Grace)
}

func expire[T any](st *store[T], grace time.Duration) {
	for _, e := range st.all {
		if !e.doubtful.IsZero() && time.Since(e.doubtful) >= grace {
			e.state, e.version, e.doubtful = gone, "", time.Time{}
		}
	}
}

// show tells every subscription what is known.
func (s *session) show() {
	for _, sub := range s.client.subscriptions() {
		sub.show(s.view(sub))
	}
}

// Why something is not known. They are values, so that views can be compared.
var (
	errSilent    = errors.New("the control plane says nothing of it")
	errNoCluster = errors.New("the control plane has no such cluster")
	errNoSet     = errors.New("the control plane has no endpoints for it")
	errMissing   = errors.New("the control plane no longer has it: the endpoints stay for now")
)

// view is what is known of a cluster. A control plane that was away and has nothing now is not believed at once.
func (s *session) view(sub *subscription) view {
	before := sub.last()
	v := s.look(sub, before)
	if v.known && v.set.empty() && !before.set.empty() && !s.failed.IsZero() && time.Since(s.failed) < s.client.conf.Grace {
		v.set, v.flaw = before.set, nil
		v.err = cmp.Or(v.err, errMissing)
	}
	return v
}

func (s *session) look(sub *subscription, before view) view {
	v := view{known: before.known, set: before.set, err: s.broken}
	c := s.clusters.all[sub.cluster]
	if c == nil {
		return v
	}
	problem := look(c, s.client.conf.Patience)
	switch {
	case c.state == gone:
		return v.gone(errNoCluster)
	case c.state == asked:
	case c.value.inline != nil:
		v.known, v.set = true, c.value.inline
	default:
		a := s.assignments.all[c.value.assignment]
		if a == nil {
			break
		}
		if problem == nil {
			problem = look(a, s.client.conf.Patience)
		}
		switch a.state {
		case gone:
			return v.gone(errNoSet)
		case there:
			v.known, v.set = true, a.value
		}
	}
	if v.err == nil {
		v.err = problem
	}
	return v
}

// gone is the view of what is certainly not there. If it never was that is told, and no set.
func (v view) gone(why error) view {
	if v.known {
		v.set, v.flaw = nil, why
	} else if v.err == nil {
		v.err = why
	}
	return v
}

// look says what is doubtful about a resource.
func look[T any](e *entryOf[T], patience time.Duration) error {
	switch {
	case e.refused != nil:
		return e.refused
	case !e.doubtful.IsZero():
		return errMissing
	case e.state == asked && !e.asked.IsZero() && time.Since(e.asked) > patience:
		return errSilent
	}
	return nil
}

func (s *subscription) last() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}
