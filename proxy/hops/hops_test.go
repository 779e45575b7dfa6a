package hops

import (
	"errors"
	"strings"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// layer enters each request.
func layer(t Tag) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper { return proxy.Before(t.Enter).Layer(next) }
}

func TestRingEnds(t *testing.T) {
	passages := 0
	var ring proxy.RoundTripper = proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		passages++
		return nil
	})
	// Two sidecars that call each other for ever.
	var a proxy.RoundTripper
	b := layer(Inbound("b"))(proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		passages++
		return a.RoundTrip(req, resp)
	}))
	a = layer(Outbound("a"))(b)
	err := a.RoundTrip(&proxy.Request{}, new(proxy.Response))
	var e *proxy.Error
	if !errors.As(err, &e) || e.Code != proxy.LoopDetected || !e.Unsent {
		t.Fatalf("got %v, want loop_detected", err)
	}
	if want := "a> >b a> >b a>"; !strings.Contains(e.Detail, want) {
		t.Errorf("got %q, want it to name %q", e.Detail, want)
	}
	if passages > 2 {
		t.Errorf("%d passages of b, want at most 2", passages)
	}
	// Once is no loop, and the field is there for the app.
	req := &proxy.Request{}
	if err := layer(Outbound("a"))(ring).RoundTrip(req, nil); err != nil || req.Fields.Get(Field) != "a>" {
		t.Errorf("got %v and %v, want Pillion-Path: a>", err, req.Fields)
	}
}

func TestCommaJoinedAndBounded(t *testing.T) {
	req := &proxy.Request{Fields: proxy.Fields{{Name: "pillion-path", Value: "a>, >b,a>"}}}
	next := proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return nil })
	if err := layer("a>")(next).RoundTrip(req, nil); err == nil {
		t.Error("third passage in a comma-joined list was let through")
	}
	req.Fields[0].Value = strings.Repeat("x>,", maxLength)
	if err := layer("a>")(next).RoundTrip(req, nil); err == nil {
		t.Error("an endless path was let through")
	}
}

func TestNoAllocations(t *testing.T) {
	rt := layer("a>")(proxy.RoundTripperFunc(func(*proxy.Request, *proxy.Response) error { return nil }))
	req := &proxy.Request{Fields: make(proxy.Fields, 0, 8)}
	if n := testing.AllocsPerRun(100, func() { req.Fields = req.Fields[:0]; _ = rt.RoundTrip(req, nil) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
