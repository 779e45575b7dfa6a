package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

const (
	maxPage   = 64 << 20         // bytes of a page of a list
	maxEvent  = 8 << 20          // bytes of an event; etcd holds objects of 1.5 MiB
	maxStatus = 64 << 10         // bytes of an error's body
	listTime  = 30 * time.Second // for one page
	watchTime = 5 * time.Minute  // after which the server ends a watch; up to twice that
	shortest  = time.Second      // that a watch without events lasts, unless something is wrong
	maxPause  = time.Second      // between attempts, unless the server says when to come again
	patience  = 100              // failures, after which
	maxLong   = 5 * time.Second  // is between them
	maxWait   = time.Minute      // that a server may ask for
	apiRoot   = "/apis/discovery.k8s.io/v1/namespaces/"
)

// statusError is a refusal by the server.
type statusError struct {
	code    int
	message string
	wait    time.Duration // after which the server wants to be asked again; 0 if it did not say
}

func (e *statusError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("the API server answered %d", e.code)
	}
	return fmt.Sprintf("the API server answered %d: %s", e.code, e.message)
}

// watch follows the slices of one Service.
//
//	to list ──pages──▶ to watch at a version ──the stream ends──▶ to watch at the last version that was seen
//	   ▲───────────────── 410, or something that cannot be read ─────────────────┘
type watch struct {
	*Resolver
	sender   discovery.Sender
	update   func([]proxy.Endpoint)
	slices   map[string]*slice // by name
	version  string            // up to which slices is right; "" means that they are to be listed
	good     bool              // a watch has told something since the last failure
	standing error             // why the slices, which are right, are of no use
	some     bool              // the last set that was sent is not empty
	failed   time.Time         // the last failure; zero if there was none
	hold     time.Time         // when to publish an empty set that comes too soon after failed; zero if there is none
	failures int               // attempts in a row that have told nothing
}

// Watch implements discovery.Resolver.
func (r *Resolver) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	w := &watch{Resolver: r, update: update}
	for {
		err := w.once(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.good {
			w.failures, w.good = 0, false
		}
		if err == nil {
			continue
		}
		if !isTooOld(err) { // which is no failure: listing is what is due
			w.report(ctx, err)
		}
		if !discovery.Sleep(ctx, w.delay(err)) {
			return ctx.Err()
		}
		w.failures++
		w.failed = time.Now()
	}
}

// report tells why the source cannot tell, or that it can.
func (w *watch) report(ctx context.Context, err error) {
	if err != nil {
		err = fmt.Errorf("the Service %s of namespace %s: %w", w.target.Name, w.target.Namespace, err)
	}
	discovery.Report(ctx, err)
}

// delay is how long to wait after err. Who has been away for long is looked for less often.
func (w *watch) delay(err error) time.Duration {
	most := maxPause
	if w.failures > patience {
		most = maxLong
	}
	pause := min(w.cluster.conf.Retry<<min(w.failures, 10), most)
	var se *statusError
	if errors.As(err, &se) && se.wait > 0 {
		pause = se.wait
	}
	return pause - pause/4 + rand.N(pause/4+1)
}

// once lists if it must, and then watches until the stream ends: nil if the server ended it, as it does now and then.
func (w *watch) once(ctx context.Context) error {
	if w.version == "" {
		if err := w.list(ctx); err != nil {
			return fmt.Errorf("list EndpointSlices: %w", err)
		}
	}
	err := w.follow(ctx)
	if isTooOld(err) {
		w.version = ""
	}
	if err != nil {
		return fmt.Errorf("watch EndpointSlices: %w", err)
	}
	return nil
}

// isTooOld: "When the requested watch operations fail because the historical version of that resource is not available, clients must handle
// the case by recognizing the status code 410 Gone, clearing their local cache, performing a new get or list operation" (API concepts).
func isTooOld(err error) bool {
	var se *statusError
	return errors.As(err, &se) && se.code == http.StatusGone
}

func (w *watch) path() string {
	return apiRoot + url.PathEscape(w.target.Namespace) + "/endpointslices"
}

func (w *watch) query() url.Values {
	return url.Values{"labelSelector": {sliceName + "=" + w.target.Name}}
}

// list reads all pages of the list, and takes them if all are good.
func (w *watch) list(ctx context.Context) error {
	all := make(map[string]*slice)
	for next := ""; ; {
		page, err := w.page(ctx, next)
		if err != nil {
			return err // 410 too: the continuation has expired, and the list begins again
		}
		for i := range page.Items {
			s, err := check(&page.Items[i], w.target.Name)
			if err != nil {
				return err
			}
			all[page.Items[i].Metadata.Name] = s
		}
		if next = page.Metadata.Continue; next == "" {
			w.slices, w.version = all, page.Metadata.ResourceVersion
			break
		}
	}
	w.publish(ctx)
	return nil
}

func (w *watch) page(ctx context.Context, next string) (*object, error) {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	q := w.query()
	q.Set("limit", strconv.Itoa(w.cluster.conf.Page))
	if next != "" {
		q.Set("continue", next)
	}
	resp, err := w.get(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	page := new(object)
	if err := json.NewDecoder(&bounded{r: resp.Body, left: maxPage}).Decode(page); err != nil {
		return nil, fmt.Errorf("the list is broken: %w", err)
	}
	if page.Kind != "EndpointSliceList" || page.Metadata.ResourceVersion == "" {
		return nil, fmt.Errorf("an EndpointSliceList with a version was expected, and a %q came", page.Kind)
	}
	return page, nil
}

// get asks, and makes an error of an answer that is not 200.
func (w *watch) get(ctx context.Context, q url.Values) (*http.Response, error) {
	resp, err := w.cluster.do(ctx, w.path(), q)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	se := &statusError{code: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		se.wait = min(time.Duration(s)*time.Second, maxWait)
	}
	var status object
	if json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&status) == nil {
		se.message = clip(status.Message)
	}
	return nil, se
}

// follow watches from w.version on, until the stream ends: nil if the server ended it.
func (w *watch) follow(ctx context.Context) error {
	length := watchTime + rand.N(watchTime)
	ctx, cancel := context.WithTimeout(ctx, length+listTime)
	defer cancel()
	q := w.query()
	q.Set("watch", "1")
	q.Set("resourceVersion", w.version)
	q.Set("allowWatchBookmarks", "true")
	q.Set("timeoutSeconds", strconv.Itoa(int(length/time.Second)))
	resp, err := w.get(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	w.report(ctx, w.standing)
	in := &stream{body: resp.Body, events: make(chan event)}
	go in.read(ctx)
	defer in.wait()
	defer cancel()
	began := time.Now()
	err = w.take(ctx, in)
	if err == nil && !w.good && time.Since(began) < shortest {
		return errors.New("the server ended it at once")
	}
	w.good = w.good || err == nil
	return err
}

// take applies events until there are no more, and makes one set of those that come together.
func (w *watch) take(ctx context.Context, in *stream) error {
	var settled <-chan time.Time
	for {
		var held <-chan time.Time
		if !w.hold.IsZero() {
			held = time.After(time.Until(w.hold))
		}
		select {
		case <-held:
			w.publish(ctx)
		case e, more := <-in.events:
			var changed bool
			var err error
			if more {
				changed, err = w.apply(&e)
			} else {
				err = in.err
			}
			switch {
			case settled != nil && (err != nil || !more):
				w.publish(ctx)
				return err
			case err != nil || !more:
				return err
			case changed && settled == nil:
				settled = time.After(w.cluster.conf.Settle)
			}
			w.good = true
		case <-settled:
			settled = nil
			w.publish(ctx)
		}
	}
}

// stream is the body of a watch.
type stream struct {
	body   io.Reader
	events chan event // closed at the end
	err    error      // why it ended, nil if the server ended it; to be read once events is closed
}

// read decodes events until the stream ends.
func (s *stream) read(ctx context.Context) {
	defer close(s.events)
	in := &bounded{r: s.body}
	dec := json.NewDecoder(in)
	for {
		in.left = maxEvent
		var e event
		err := dec.Decode(&e)
		if err == io.EOF {
			return
		}
		if err != nil {
			s.err = fmt.Errorf("the stream is broken: %w", err)
			return
		}
		select {
		case s.events <- e:
		case <-ctx.Done():
			s.err = ctx.Err()
			return
		}
	}
}

// wait returns when read has; its context must have ended.
func (s *stream) wait() {
	for range s.events {
	}
}

// apply takes one event. What cannot be read changes nothing, and makes us list again.
func (w *watch) apply(e *event) (changed bool, err error) {
	var o object
	if err := json.Unmarshal(e.Object, &o); err != nil {
		w.version = ""
		return false, fmt.Errorf("an event %q is broken: %w", clip(e.Type), err)
	}
	if e.Type == "ERROR" {
		return false, &statusError{code: o.Code, message: clip(o.Message)}
	}
	if o.Metadata.ResourceVersion == "" {
		w.version = ""
		return false, fmt.Errorf("an event %q without a version came", clip(e.Type))
	}
	switch e.Type {
	case "BOOKMARK":
	case "ADDED", "MODIFIED":
		s, err := check(&o, w.target.Name)
		if err != nil {
			w.version = ""
			return false, err
		}
		w.slices[o.Metadata.Name] = s
		changed = true
	case "DELETED":
		delete(w.slices, o.Metadata.Name)
		changed = true
	default:
		w.version = ""
		return false, fmt.Errorf("an event %q came, which is unknown", clip(e.Type))
	}
	w.version = o.Metadata.ResourceVersion
	return changed, nil
}

// publish makes a set of the slices and sends it. Where they are of no use to us that is no failure of the source, and listing them again would not help:
// it is told, for as long as it is so, and the last good set stays.
func (w *watch) publish(ctx context.Context) {
	set, flaw := w.merge(w.slices)
	w.standing, w.hold = nil, time.Time{}
	switch {
	case len(set) == 0 && flaw != nil:
		w.standing, flaw = flaw, nil
	case len(set) == 0 && w.some && !w.failed.IsZero() && time.Since(w.failed) < w.cluster.conf.Grace:
		w.hold = w.failed.Add(w.cluster.conf.Grace)
		w.standing = errEmpty
	default:
		w.some = len(set) > 0
		w.sender.Send(set, w.update)
		if len(w.slices) == 0 {
			flaw = errNoSlices
		}
	}
	w.report(ctx, w.standing)
	discovery.Flaw(ctx, flaw)
}

// bounded fails once left bytes have been read.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("it is too large")
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// clip bounds text of the server in a message.
func clip(s string) string {
	const most = 200 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
