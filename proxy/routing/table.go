package routing

import (
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// Table is the routes of one service, in the order in which they are tried. It is not changed once it is in use.
type Table struct {
	Rules []Rule
}

// Rule is one route: what it is for, and what becomes of its requests.
type Rule struct {
	// Match are sets of conditions, of which one must hold; none is every request.
	Match []Conditions
	// Backend is the service whose Endpoints are called; zero is the service itself.
	Backend proxy.Service
	// Split, if not nil, chooses the Backend of each request in place of Backend, as weighted shares do; its zero value is the service itself. It must not wait.
	Split func(*proxy.Request) proxy.Service
	// Path and Host are what the request is changed into. The zero values change nothing.
	Path Path
	Host string
	// Redirect, if not nil, is the answer: the request goes nowhere.
	Redirect *Redirect
	// Request and Response are changed before the request is sent and before the answer goes back.
	Request, Response Edits
}

// Redirect names another place. What is zero stays as the client asked.
type Redirect struct {
	Scheme string
	Host   string
	Port   uint16
	Path   Path
	Status int
}

// Edits are changes to the fields of a message, made in this order.
type Edits struct {
	Remove []string
	Set    []proxy.Field
	Add    []proxy.Field
}

func (e *Edits) apply(f *proxy.Fields) {
	for _, name := range e.Remove {
		f.Del(name)
	}
	for i := range e.Set {
		f.Set(e.Set[i].Name, e.Set[i].Value)
	}
	*f = append(*f, e.Add...)
}

// Find returns the number of the rule that applies to req, from 1 on, and which of its sets of conditions holds; 0 is none. It is pure.
func (t *Table) Find(req *proxy.Request) (rule, alternative int) {
	if t == nil || !routable(req) {
		return 0, 0
	}
	path, _ := splitQuery(req.Path)
	for i := range t.Rules {
		r := &t.Rules[i]
		if len(r.Match) == 0 {
			return i + 1, 0
		}
		for j := range r.Match {
			if r.Match[j].match(req, path) {
				return i + 1, j
			}
		}
	}
	return 0, 0
}

// routable reports whether req is a request: Streams and Flows have no path, or one that is not the app's.
func routable(req *proxy.Request) bool { return !req.IsConnect() && req.Upgrade != proxy.ConnectUDP }

// splitQuery cuts s before its question mark.
func splitQuery(s string) (path, query string) {
	if i := strings.IndexByte(s, '?'); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// String is the conditions in words, as in "path /users/*, method GET".
func (c *Conditions) String() string {
	var words []string
	if c.Path.text != "" {
		words = append(words, "path "+c.Path.text)
	}
	if len(c.Methods) > 0 {
		words = append(words, "method "+strings.Join(c.Methods, " or "))
	}
	for _, h := range c.Headers {
		words = append(words, "header "+h.Name+": "+h.String())
	}
	if len(words) == 0 {
		return "every request"
	}
	return strings.Join(words, ", ")
}

// Preview returns what the layer would make of req, which stays as it is. Of a Rule with a Split it does not say where.
func (t *Table) Preview(req *proxy.Request) proxy.Request {
	after := *req
	n, alternative := t.Find(req)
	if n == 0 {
		return after
	}
	r := &t.Rules[n-1]
	var from *Path
	if len(r.Match) > 0 {
		from = &r.Match[alternative].Path
	}
	after.Rule, after.Backend = n, r.Backend
	after.Fields = slices.Clone(req.Fields)
	r.Request.apply(&after.Fields)
	if r.Host != "" {
		after.Authority = r.Host
	}
	if r.Path.text != "" && strings.HasPrefix(req.Path, "/") {
		after.Path = string(appendPath(nil, &r.Path, from, req.Path))
	}
	return after
}

// Location is where the answer to req would send its client, "" if it would not.
func (t *Table) Location(req *proxy.Request) string {
	n, alternative := t.Find(req)
	if n == 0 || t.Rules[n-1].Redirect == nil {
		return ""
	}
	r := &t.Rules[n-1]
	var from *Path
	if len(r.Match) > 0 {
		from = &r.Match[alternative].Path
	}
	return string(r.Redirect.append(nil, from, req))
}

// Reason says in words why the rule of number n applies to req, or why none does.
func (t *Table) Reason(req *proxy.Request) string {
	n, j := t.Find(req)
	switch {
	case !routable(req):
		return "routes are for requests, and this opens a stream"
	case t == nil || len(t.Rules) == 0:
		return "the service has no routes"
	case n == 0:
		return "it fits none of the service's routes"
	case len(t.Rules[n-1].Match) == 0:
		return "it is the first that fits: it is for every request"
	}
	return "it is the first that fits: " + t.Rules[n-1].Match[j].String()
}

// Explain says in words what is done with a request that the rule applies to; "" if nothing is.
func (r *Rule) Explain() string {
	var words []string
	if d := r.Redirect; d != nil {
		return "answered with a redirect, and sent nowhere"
	}
	if r.Split != nil {
		words = append(words, "sent to one of several services, by their shares")
	} else if r.Backend.Name != "" {
		words = append(words, "sent to "+r.Backend.String())
	}
	if r.Path.text != "" {
		words = append(words, "path rewritten to "+r.Path.text)
	}
	if r.Host != "" {
		words = append(words, "host rewritten to "+r.Host)
	}
	words = append(words, r.Request.explain("the request")...)
	words = append(words, r.Response.explain("the answer")...)
	return strings.Join(words, "; ")
}

func (e *Edits) explain(of string) []string {
	var words []string
	names := func(fields []proxy.Field) string {
		var all []string
		for _, f := range fields {
			all = append(all, f.Name)
		}
		return strings.Join(slices.Compact(all), ", ")
	}
	for _, x := range []struct{ verb, names string }{{"without", strings.Join(e.Remove, ", ")}, {"with", names(e.Set)}, {"with a further", names(e.Add)}} {
		if x.names != "" {
			words = append(words, of+" "+x.verb+" "+x.names)
		}
	}
	return words
}
