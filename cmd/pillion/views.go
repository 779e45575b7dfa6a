package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
)

// views lets peers see what this sidecar does: those that admin.share names, and nobody else. They ask over their Links, and no app of theirs can; see
// proxy.SidecarName.
type views struct {
	status  atomic.Pointer[func() admin.Status] // nil until there is one
	running atomic.Int32
}

func newViews() *views { return new(views) }

const (
	viewPath = "/status" // what a peer asks for
	maxViews = 4         // at a time; more are refused
	maxView  = 1 << 20   // bytes of an answer
)

// layer answers for the sidecar of service.
func (v *views) layer(service string, share config.Patterns) proxy.RoundTripper {
	return proxy.RoundTripperFunc(func(req *proxy.Request, resp *proxy.Response) error {
		who := req.Peer.Identity
		if !slices.ContainsFunc(share, func(p proxy.IdentityPattern) bool { return p.Matches(who) }) {
			return &proxy.Error{Code: proxy.Denied, Unsent: true, Detail: fmt.Sprintf("%s may not see what the sidecar of %s does: it is not in admin.share there", who, service)}
		}
		if req.Method != "GET" || req.Path != viewPath || req.Upgrade != "" {
			return &proxy.Error{Code: proxy.Unsupported, Unsent: true, Detail: "a sidecar can be asked for GET " + viewPath + " only"}
		}
		status := v.status.Load()
		if status == nil {
			return &proxy.Error{Code: proxy.Overloaded, Unsent: true, Detail: "the sidecar of " + service + " is starting"}
		}
		defer v.running.Add(-1)
		if v.running.Add(1) > maxViews {
			return &proxy.Error{Code: proxy.Overloaded, Unsent: true, Detail: "too many ask the sidecar of " + service + " what it does"}
		}
		var data []byte
		var err error
		req.Shard.Offload(func() { // it asks the loops, this one among them
			st := (*status)()
			st.FillLists()
			data, err = json.Marshal(&st)
		})
		if err == nil && len(data) > maxView {
			err = fmt.Errorf("its status has %d bytes, more than the %d that are sent", len(data), maxView)
		}
		if err != nil {
			return &proxy.Error{Code: proxy.Internal, Unsent: true, Detail: "the sidecar of " + service + " cannot say what it does", Err: err}
		}
		resp.Status, resp.Version, resp.Length, resp.Body = 200, req.Version, int64(len(data)), &viewBody{*bytes.NewReader(data)}
		resp.Fields.Add("Content-Type", "application/json")
		resp.Fields.Add("Content-Length", strconv.Itoa(len(data)))
		return nil
	})
}

// viewBody is a content that is there at once.
type viewBody struct{ bytes.Reader }

// Buffered is what is left, -1 at the end.
func (b *viewBody) Buffered() int {
	if b.Len() == 0 {
		return -1
	}
	return b.Len()
}

// Trailers are none.
func (b *viewBody) Trailers() proxy.Fields { return nil }

// Close does nothing.
func (b *viewBody) Close() error { return nil }
