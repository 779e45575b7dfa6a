package xds

import (
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

// expire believes what has been missing for long enough.
func (s *session) expire() {
	expire(&s.clusters, s.client.conf.Grace)
	expire(&s.assignments, s.client.conf.Grace)
}
