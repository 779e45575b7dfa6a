// Package hops ends loops: a sidecar that reaches itself, or a ring of sidecars, answers
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

// Tag is what a sidecar adds to the path in one direction.
type Tag string

// Outbound returns the Tag of a sidecar's outbound side.
func Outbound(name string) Tag { return Tag(name + ">") }

// Inbound returns the Tag of a sidecar's inbound side.
func Inbound(name string) Tag { return Tag(">" + name) }

// Enter adds the Tag to the path of a request, or ends it with LoopDetected. Whoever may send the request again after an error takes off what Enter has added to its
// Fields.
func (t Tag) Enter(req *proxy.Request) error {
	if !req.Lacks(proxy.NamePath) {
		if same, all := count(req.Fields, string(t)); same >= maxPassages || all >= maxLength {
			return &proxy.Error{Code: proxy.LoopDetected, Unsent: true,
				Detail: "the request goes round in a loop: " + Path(req.Fields) + " " + string(t) + "; check where the apps' and services' addresses point"}
		}
	}
	req.Fields = append(req.Fields, proxy.Field{Name: Field, Value: string(t)})
	req.Gains(proxy.NamePath)
	return nil
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
