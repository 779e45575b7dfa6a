package tap

import (
	"fmt"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

// Filter says which requests are shown. Zero fields let everything pass; all others must match.
type Filter struct {
	Direction string // "outbound" or "inbound"
	Shape     string // "exchange", "stream" or "flow"
	Service   string
	Peer      string // a part of the identity at the other end
	Method    string
	Path      string // its beginning
	Status    string // "503", or "5xx"
	Header    string // of the request: "name", or "name: value"
	Slower    time.Duration
}

// Check says which field nothing can match, so that a mistake is not taken for silence.
func (f *Filter) Check() error {
	switch {
	case f.Direction != "" && f.Direction != "outbound" && f.Direction != "inbound":
		return fmt.Errorf("direction: %q is none of outbound, inbound", f.Direction)
	case f.Shape != "" && f.Shape != "exchange" && f.Shape != "stream" && f.Shape != "flow":
		return fmt.Errorf("shape: %q is none of exchange, stream, flow", f.Shape)
	case f.Status != "" && strings.Trim(f.Status, "0123456789x") != "" || f.Status != "" && len(f.Status) != 3:
		return fmt.Errorf("status: %q is none, as 503 and 5xx are", f.Status)
	}
	return nil
}

// match reports whether e is wanted.
func (f *Filter) match(e *observe.Entry) bool {
	req := e.Request
	switch {
	case f.Direction != "" && f.Direction != e.Direction.String(),
		f.Shape != "" && f.Shape != e.Shape.String(),
		f.Service != "" && f.Service != req.Service.Name,
		f.Method != "" && f.Method != req.Method,
		!strings.HasPrefix(req.Path, f.Path),
		f.Status != "" && !statusIs(e.Status, f.Status),
		f.Peer != "" && !strings.Contains(peer(req), f.Peer),
		f.Header != "" && !hasHeader(req.Fields, f.Header):
		return false
	}
	return f.Slower == 0 || e.Stop != 0 && e.Stop.Sub(e.Start) >= f.Slower
}

func statusIs(status int, want string) bool {
	if len(want) != 3 || status < 100 || status > 999 {
		return false
	}
	got := [3]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}
	for i := range want {
		if want[i] != 'x' && want[i] != got[i] {
			return false
		}
	}
	return true
}

// peer is who is at the other end of the link.
func peer(req *proxy.Request) string {
	if req.Peer != nil {
		return string(req.Peer.Identity)
	}
	if req.Endpoint != nil {
		return string(req.Endpoint.Identity)
	}
	return ""
}

func hasHeader(fields proxy.Fields, want string) bool {
	name, value, valued := strings.Cut(want, ":")
	value = strings.TrimSpace(value)
	for i := range fields {
		if strings.EqualFold(fields[i].Name, strings.TrimSpace(name)) && (!valued || fields[i].Value == value) {
			return true
		}
	}
	return false
}
