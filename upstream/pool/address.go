package pool

import (
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Addresser says in requests which service and port they are for. A Link has one.
type Addresser struct {
	Shard   task.Shard
	Pillion bool // the peer understands proxy.ToField

	names map[proxy.Service]string // guarded by Shard's lock
}

// maxNames bounds Addresser.names; a further name is made anew each time.
const maxNames = 256

// RoundTrip has next send req, which is as before once it returns.
func (a *Addresser) RoundTrip(next proxy.RoundTripper, req *proxy.Request, resp *proxy.Response) error {
	before, err := a.Address(req)
	if err != nil {
		return err
	}
	err = next.RoundTrip(req, resp)
	a.Sent(before, err, req, resp)
	return err
}

// Unaddressed is what Address has changed in a request.
type Unaddressed struct {
	fields    int
	authority string
}

// Address is the half of RoundTrip before req is sent, for a Link that has no use for a RoundTripper between. After nil Sent must follow.
func (a *Addresser) Address(req *proxy.Request) (Unaddressed, error) {
	if !req.Lacks(proxy.NameTo) {
		req.Fields.Del(proxy.ToField) // what an app says there is not for the peer
	}
	if !req.Lacks(proxy.NameOwn) {
		req.Fields.Del(proxy.AttemptIDField)
	}
	if !a.Pillion && req.Service.Name == proxy.SidecarName {
		return Unaddressed{}, &proxy.Error{Code: proxy.Unsupported, Unsent: true, Detail: "the sidecar there is no pillion, and would take the question for one to its app"}
	}
	before := Unaddressed{len(req.Fields), req.Authority}
	if req.IsConnect() {
		// RFC 9113 section 8.5, RFC 9114 section 4.4: ":authority" is host and port. Port 0 asks a pillion for its first app entry.
		req.Authority = req.Service.Name + ":" + strconv.Itoa(int(req.Service.Port))
	} else if a.Pillion {
		to := a.name(req.Service)
		if req.News != "" {
			to += proxy.NewsParam + req.News
		}
		req.Fields = append(req.Fields, proxy.Field{Name: proxy.ToField, Value: to})
		if req.AttemptID != "" {
			req.Fields = append(req.Fields, proxy.Field{Name: proxy.AttemptIDField, Value: proxy.AttemptValue(req.AttemptID, req.AttemptAge)})
		}
	} else if req.Authority == "" {
		req.Authority = a.name(req.Service) // an HTTP/1.0 client may say none, which other versions do not allow
	}
	return before, nil
}

// Sent is the other half: it makes req what it was, and takes what is for this sidecar out of an answer, which there is if err is nil.
func (a *Addresser) Sent(before Unaddressed, err error, req *proxy.Request, resp *proxy.Response) {
	req.Fields, req.Authority = req.Fields[:before.fields], before.authority // the slice may have grown, and stays so for its next use
	if err == nil && a.Pillion && !resp.Lacks(proxy.NameOwn) {
		take(resp)
	}
}

// take takes out of the answer what the peer's sidecar says to this one.
func take(resp *proxy.Response) {
	takeTook(resp)
	takeNews(resp)
	if !proxy.MayBeUnsent(resp) {
		return
	}
	if i := resp.Fields.Index(proxy.UnsentField); i >= 0 {
		resp.Fields.Del(proxy.UnsentField)
		resp.Unsent = true
	}
}

// takeTook takes what the peer's sidecar says of its time out of the answer. It says so last: what comes before under this name is the app's.
func takeTook(resp *proxy.Response) {
	for i := len(resp.Fields) - 1; i >= 0; i-- {
		if f := &resp.Fields[i]; len(f.Name) == len(proxy.TookField) && strings.EqualFold(f.Name, proxy.TookField) {
			if resp.Took == 0 { // else the codec has understood it
				resp.Took, resp.AppTook, _ = proxy.ParseTook(f.Value)
			}
			resp.Fields.Del(proxy.TookField)
			return
		}
	}
}

// takeNews is takeTook for the position that the sidecar tells.
func takeNews(resp *proxy.Response) {
	for i := len(resp.Fields) - 1; i >= 0; i-- {
		if f := &resp.Fields[i]; len(f.Name) == len(proxy.NewsField) && strings.EqualFold(f.Name, proxy.NewsField) {
			resp.News = f.Value
			resp.Fields.Del(proxy.NewsField)
			return
		}
	}
}

// name returns s as text without making it each time.
func (a *Addresser) name(s proxy.Service) string {
	if s.Port == 0 {
		return s.Name
	}
	a.Shard.Lock()
	defer a.Shard.Unlock()
	text, ok := a.names[s]
	if !ok {
		text = s.String()
		if a.names == nil {
			a.names = make(map[proxy.Service]string)
		}
		if len(a.names) < maxNames {
			a.names[s] = text
		}
	}
	return text
}
