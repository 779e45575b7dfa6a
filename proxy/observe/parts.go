package observe

import (
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/pillion-proxy/pillion/proxy"
)

// Parts say where the time to the head of an answer went. What nobody knows is 0.
type Parts struct {
	// Queue was spent waiting for a turn in this sidecar, Own is the rest of what it took itself: its work, and pauses between attempts.
	Queue time.Duration `json:"queue_ns,omitempty"`
	Own   time.Duration `json:"own_ns,omitempty"`
	// Link is the way to the other side and back, with attempts in vain. It is all that is left where the other side is no pillion, which would say what it took.
	Link time.Duration `json:"link_ns,omitempty"`
	// Peer is what the peer's sidecar took, App what the app did.
	Peer time.Duration `json:"peer_ns,omitempty"`
	App  time.Duration `json:"app_ns,omitempty"`
}

// PartNames are the names of the parts, in the order of All.
var PartNames = [...]string{"queue", "own", "link", "peer", "app"}

// All are the parts in the order in which a request meets them.
func (p *Parts) All() [len(PartNames)]time.Duration {
	return [...]time.Duration{p.Queue, p.Own, p.Link, p.Peer, p.App}
}

// String is for people: "own 40µs, link 300µs, app 2ms"; "" if nothing is known.
func (p *Parts) String() string {
	var b strings.Builder
	for i, d := range p.All() {
		if d > 0 {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s %v", PartNames[i], d.Round(time.Microsecond))
		}
	}
	return b.String()
}

// TimingField in a request of the app asks for the Parts in the answer, as Server-Timing (W3C).
const TimingField = "Pillion-Timing"

// divide finds the Parts out, at the head of the answer.
func (e *Entry) divide() {
	p, all := &e.Parts, e.Head.Sub(e.Start)
	attempts := e.record.Attempts()
	left := all
	for i := range attempts {
		a := &attempts[i]
		took := max(a.Head, a.End).Sub(a.Start)
		if took <= 0 {
			continue
		}
		left -= took
		switch {
		case a.Head == 0 || i < len(attempts)-1:
			p.Link += took
		case e.Direction == Inbound:
			p.App += took
		default:
			far := min(a.Took, took)
			p.App = min(a.AppTook, far)
			p.Peer = far - p.App
			p.Link += took - far
		}
	}
	p.Queue = min(e.record.Queued, max(0, left))
	p.Own = max(0, left-p.Queue)
}

// tell adds the Parts to the answer where somebody wants them: the sidecar that called, or an app that asked.
func (e *Entry) tell(resp *proxy.Response) {
	if e.timed && e.Request.Version == proxy.HTTP2 { // whose codec says it in few bytes
		resp.Took, resp.AppTook = e.Head.Sub(e.Start), e.Parts.App
		return
	}
	if e.timed {
		b := proxy.AppendTook(e.took[:0], e.Head.Sub(e.Start), e.Parts.App)
		resp.Fields.Add(proxy.TookField, unsafe.String(unsafe.SliceData(b), len(b))) // e outlives the answer
		return
	}
	if e.Direction == Outbound && e.Shape == Exchange && !e.Request.Lacks(proxy.NameOwn) && e.Request.Fields.Has(TimingField) {
		resp.Fields.Add("Server-Timing", e.Parts.serverTiming(e.Head.Sub(e.Start)))
	}
}

func (p *Parts) serverTiming(all time.Duration) string {
	var b strings.Builder
	for i, d := range p.All() {
		fmt.Fprintf(&b, "pillion-%s;dur=%.3f, ", PartNames[i], float64(d.Microseconds())/1000)
	}
	fmt.Fprintf(&b, "pillion;dur=%.3f", float64(all.Microseconds())/1000)
	return b.String()
}
