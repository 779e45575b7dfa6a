// Package hops is the layer that ends loops: a sidecar that reaches itself, or a ring of sidecars, answers
// 508 and names the path, instead of a storm. Each sidecar adds its name to the Pillion-Path field,
// one line per passage, which is how the app sees through whom a request came. An app that passes all
// fields of a request on when it calls others (a reverse proxy) may lead a request through the same
// sidecar again; only the third passage in the same direction is a loop.
package hops

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// Field lists the sidecars that a request has passed, in order: "web>" outbound of web, ">orders" inbound of orders.
const Field = "Pillion-Path"

const (
	maxPassages = 2  // of one sidecar in one direction; one more is a loop
	maxLength   = 64 // passages in all; more is a loop
)

// Outbound returns the tag of a sidecar's outbound side.
func Outbound(name string) string { return name + ">" }

// Inbound returns the tag of a sidecar's inbound side.
func Inbound(name string) string { return ">" + name }

// Layer adds tag to the path of each request, or ends it with LoopDetected.
func Layer(tag string) proxy.Layer {
	return func(next proxy.RoundTripper) proxy.RoundTripper { return &layer{tag, next} }
}

type layer struct {
	tag  string
	next proxy.RoundTripper
}

// RoundTrip implements proxy.RoundTripper.
func (l *layer) RoundTrip(req *proxy.Request, resp *proxy.Response) error {
	if !req.Lacks(proxy.NamePath) {
		if same, all := count(req.Fields, l.tag); same >= maxPassages || all >= maxLength {
			return &proxy.Error{Code: proxy.LoopDetected, Unsent: true,
				Detail: "the request goes round in a loop: " + Path(req.Fields) + " " + l.tag + "; check where the apps' and services' addresses point"}
		}
	}
	n := len(req.Fields)
	req.Fields = append(req.Fields, proxy.Field{Name: Field, Value: l.tag})
	req.Gains(proxy.NamePath)
	err := l.next.RoundTrip(req, resp)
	if err != nil { // a second attempt by an outer layer starts from the same fields
		req.Fields = req.Fields[:n]
	}
	return err
}

// Path is the way a request has come so far, as words.
func Path(fields proxy.Fields) string {
	var parts []string
	for i := range fields {
		if isPath(&fields[i]) {
			for _, tag := range strings.Split(fields[i].Value, ",") {
				parts = append(parts, strings.TrimSpace(tag))
			}
		}
	}
	return strings.Join(parts, " ")
}

func isPath(f *proxy.Field) bool { return proxy.SameName(f.Name, Field) }

// count returns how often tag, and how many tags in all, are in the path.
func count(fields proxy.Fields, tag string) (same, all int) {
	for i := range fields {
		if !isPath(&fields[i]) {
			continue
		}
		rest := fields[i].Value
		for more := true; more; all++ {
			var one string
			one, rest, more = strings.Cut(rest, ",")
			if strings.TrimSpace(one) == tag {
				same++
			}
		}
	}
	return same, all
}
