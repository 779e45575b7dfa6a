package flight

import (
	"fmt"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// Story is what is kept of a request: a copy, which may be kept for ever.
type Story struct {
	ID        string            `json:"id"`
	Why       Reason            `json:"why"`
	At        time.Time         `json:"at"` // when it began
	Direction observe.Direction `json:"direction"`
	Shape     observe.Shape     `json:"shape"`
	Method    string            `json:"method"`
	Authority string            `json:"authority,omitempty"`
	Path      string            `json:"path,omitempty"` // without its query, which may hold secrets
	Service   string            `json:"service,omitempty"`
	Rule      int               `json:"route,omitempty"`
	Client    string            `json:"client,omitempty"` // address, "" for a Unix socket
	Peer      proxy.Identity    `json:"caller,omitempty"` // who called (inbound)
	Status    int               `json:"status,omitempty"`
	Code      string            `json:"code,omitempty"`
	GRPC      int               `json:"grpc_status"` // -1 if it was no gRPC
	End       observe.End       `json:"end"`
	Err       string            `json:"error,omitempty"`
	BytesIn   int64             `json:"bytes_in"`
	BytesOut  int64             `json:"bytes_out"`
	Head      time.Duration     `json:"head_ns,omitempty"` // to the head of the answer; 0 if there was none
	Duration  time.Duration     `json:"duration_ns"`
	Parts     observe.Parts     `json:"parts,omitzero"`  // of Head
	Trace     string            `json:"trace,omitempty"` // hexadecimal, "" for none
	Events    []Event           `json:"events,omitempty"`
	Attempts  []Attempt         `json:"attempts,omitempty"`
	Dropped   int               `json:"dropped,omitempty"` // events beyond those that are kept
}

// Reason says why a Story is kept.
type Reason string

// The reasons.
const (
	Failed Reason = "failed" // an answer of pillion's own, a 5xx, an error status of gRPC, or an end before the end
	Slow   Reason = "slow"   // slower than nearly all others of its service
	Asked  Reason = "asked"  // the request had AskField
)

// Event is a decision.
type Event struct {
	After    time.Duration `json:"after_ns"` // since the request began
	Layer    string        `json:"layer"`
	Text     string        `json:"text"`
	N        int64         `json:"n,omitempty"`
	Endpoint string        `json:"endpoint,omitempty"`
}

// Attempt is a try at an Endpoint.
type Attempt struct {
	Start    time.Duration `json:"start_ns"`          // since the request began, as are the others
	Head     time.Duration `json:"head_ns,omitempty"` // 0: there was no answer
	End      time.Duration `json:"end_ns,omitempty"`  // 0: it did not fail
	Endpoint string        `json:"endpoint,omitempty"`
	Status   int           `json:"status,omitempty"`
	Code     string        `json:"code,omitempty"`
}

// tell copies what there is to say of e.
func tell(e *observe.Entry, why Reason, at time.Time) *Story {
	req := e.Request
	s := &Story{
		ID: strings.Clone(req.ID), Why: why, At: at, Direction: e.Direction, Shape: e.Shape,
		Method: strings.Clone(req.Method), Authority: strings.Clone(req.Authority), Path: path(req.Path),
		Service: strings.Clone(req.Service.String()), Rule: req.Rule,
		Status: e.Status, Code: e.Code, GRPC: e.GRPC, End: e.End, BytesIn: e.BytesIn, BytesOut: e.BytesOut,
		Duration: e.Stop.Sub(e.Start),
	}
	if e.Head != 0 {
		s.Head, s.Parts = e.Head.Sub(e.Start), e.Parts
	}
	if e.Err != nil {
		s.Err = e.Err.Error()
	}
	if req.Client.IsValid() {
		s.Client = req.Client.String()
	}
	if req.Peer != nil {
		s.Peer = req.Peer.Identity
	}
	r := e.Record()
	if r.Trace.Valid() {
		s.Trace = fmt.Sprintf("%x", r.Trace.ID)
	}
	events, dropped := r.Events()
	s.Dropped = dropped
	for _, v := range events {
		s.Events = append(s.Events, Event{After: v.At.Sub(e.Start), Layer: v.Layer, Text: strings.Clone(v.Text), N: v.N, Endpoint: endpoint(v.Endpoint)})
	}
	for _, a := range r.Attempts() {
		x := Attempt{Start: a.Start.Sub(e.Start), Endpoint: endpoint(a.Endpoint), Status: a.Status, Code: string(a.Code)}
		if a.Head != 0 {
			x.Head = a.Head.Sub(e.Start)
		}
		if a.End != 0 {
			x.End = a.End.Sub(e.Start)
		}
		s.Attempts = append(s.Attempts, x)
	}
	return s
}

func endpoint(ep *proxy.Endpoint) string {
	if ep == nil {
		return ""
	}
	return ep.String()
}

// maxPath bounds the path that is kept, in bytes.
const maxPath = 512

func path(p string) string {
	p, _, _ = strings.Cut(p, "?")
	return strings.Clone(p[:min(len(p), maxPath)])
}
