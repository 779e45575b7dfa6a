package datagram

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// The field by which both sides say that capsules follow: RFC 9297 section 3.4.
const (
	CapsuleField = "Capsule-Protocol"
	CapsuleValue = "?1"
)

const pathPrefix = "/.well-known/masque/udp/"

// NewRequest asks for a Flow to svc, on behalf of the client at that address. The caller sets Deadline, and Local or Peer.
func NewRequest(s task.Shard, svc proxy.Service, client netip.AddrPort) *proxy.Request {
	req := &proxy.Request{
		Method: "GET", Scheme: "https", Authority: svc.Name, Path: Path(svc.Name, svc.Port), Version: proxy.HTTP11, Upgrade: proxy.ConnectUDP,
		Shard: s, Cancel: new(proxy.Cancel), Client: client, Service: svc,
	}
	req.Fields.Add(CapsuleField, CapsuleValue)
	return req
}

// Path is the one of a request for a Flow to host and port, by the default template of RFC 9298 section 2. Between pillions port 0 stands for the first
// app entry that takes Flows.
func Path(host string, port uint16) string {
	var b strings.Builder
	b.WriteString(pathPrefix)
	for i := range len(host) {
		c := host[i]
		// RFC 9298 section 2: "all colons (':') MUST be percent-encoded".
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		const digits = "0123456789ABCDEF"
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	b.WriteByte('/')
	b.WriteString(strconv.Itoa(int(port)))
	b.WriteByte('/')
	return b.String()
}

// Target returns the host and port that the path of a request for a Flow names, or an *proxy.Error.
func Target(path string) (host string, port uint16, err error) {
	bad := func() (string, uint16, error) {
		return "", 0, &proxy.Error{Code: proxy.BadRequest, Unsent: true,
			Detail: "the path of a request for UDP is " + pathPrefix + "{host}/{port}/, not " + strconv.Quote(path)}
	}
	rest, ok := strings.CutPrefix(path, pathPrefix)
	if !ok {
		return bad()
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 || parts[2] != "" {
		return bad()
	}
	host, err = url.PathUnescape(parts[0])
	if err != nil || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/%[]?#", r) }) {
		return bad()
	}
	n, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil {
		return bad()
	}
	return host, uint16(n), nil
}

// Of returns the Flow of an answer: its own, or one on its Stream; nil if it has neither. stats may be nil.
func Of(s task.Shard, resp *proxy.Response, stats *proxy.FlowStats) proxy.Flow {
	switch {
	case resp.Flow != nil:
		if c, ok := resp.Flow.(proxy.FlowCounter); ok && stats != nil {
			c.CountIn(stats)
		}
		return resp.Flow
	case resp.Stream != nil:
		return New(s, resp.Stream, stats)
	}
	return nil
}
