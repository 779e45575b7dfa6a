package head

import (
	"bytes"
	"slices"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// lines is a Writer that keeps what it gets.
type lines struct{ proxy.Fields }

func (l *lines) Field(name, value string) {
	l.Fields = append(l.Fields, proxy.Field{Name: string([]byte(name)), Value: string([]byte(value))})
}

func decode(verbatim bool, fields proxy.Fields) *Decoder {
	d := &Decoder{Verbatim: verbatim}
	d.Begin(10_000)
	for _, f := range fields {
		d.Add(f.Name, f.Value)
	}
	return d
}

// What an Encoder writes of a request, a Decoder reads.
func TestRequestsComeBack(t *testing.T) {
	for _, verbatim := range []bool{true, false} {
		for _, c := range []struct {
			req  proxy.Request
			want proxy.Fields // between others than pillions
		}{
			{proxy.Request{Method: "GET", Scheme: "http", Authority: "a", Path: "/x?y"}, nil},
			{proxy.Request{Method: "POST", Scheme: "https", Authority: "a:1", Path: "/", Length: 3,
				Fields: proxy.Fields{{Name: "Host", Value: "a:1"}, {Name: "Content-LENGTH", Value: "3"}, {Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}},
				proxy.Fields{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}}},
			{proxy.Request{Method: "CONNECT", Authority: "db:5432"}, nil},
			{proxy.Request{Method: "GET", Scheme: "http", Authority: "a", Path: "/chat", Upgrade: "websocket",
				Fields: proxy.Fields{{Name: "Sec-WebSocket-Key", Value: "k"}, {Name: "Sec-WebSocket-Version", Value: "13"}}},
				proxy.Fields{{Name: "sec-websocket-version", Value: "13"}}},
		} {
			var w lines
			e := Encoder{W: &w, Verbatim: verbatim}
			e.Request(&c.req)
			d := decode(verbatim, w.Fields)
			if bad := d.Request(); bad != "" {
				t.Errorf("%+v: %s", c.req, bad)
				continue
			}
			method := d.Method
			if d.Have&Protocol != 0 {
				method = "GET"
			}
			want := c.want
			if verbatim {
				want = c.req.Fields
			}
			if method != c.req.Method || d.Scheme != c.req.Scheme || d.Authority != c.req.Authority || d.Path != c.req.Path ||
				d.Protocol != c.req.Upgrade || !slices.Equal(d.Fields, want) || d.Length != proxy.Unknown && d.Length != c.req.Length {
				t.Errorf("verbatim %v: %+v came back as %+v", verbatim, c.req, d)
			}
		}
	}
}

func TestResponsesComeBack(t *testing.T) {
	for _, verbatim := range []bool{true, false} {
		resp := proxy.Response{Status: 404, Reason: "Not There", Length: 5, Fields: proxy.Fields{{Name: "X-A", Value: "1"}, {Name: "connection", Value: "close"}}}
		var w lines
		e := Encoder{W: &w, Verbatim: verbatim}
		e.Response(&proxy.Request{Method: "GET"}, &resp, resp.Status)
		d := decode(verbatim, w.Fields)
		status, bad := d.Response()
		if bad != "" || status != 404 || d.Length != 5 || verbatim != (d.Reason == "Not There") {
			t.Errorf("verbatim %v: got %d, %q, %+v", verbatim, status, bad, d)
		}
		if got := d.Fields[0].Name; verbatim != (got == "X-A") {
			t.Errorf("verbatim %v: got %q", verbatim, got)
		}
	}
}

// A 2xx to an Upgrade that is no agreement says so to a pillion.
func TestDeclined(t *testing.T) {
	req := proxy.Request{Method: "GET", Upgrade: "websocket"}
	var w lines
	e := Encoder{W: &w, Verbatim: true}
	e.Response(&req, &proxy.Response{Status: 200}, 200)
	if d := decode(true, w.Fields); d.Have&Declined == 0 {
		t.Errorf("got %v", w.Fields)
	}
	if IsDeclined(&req, &proxy.Response{Status: 404}, 404) || IsDeclined(&proxy.Request{Method: "GET"}, &proxy.Response{}, 200) {
		t.Error("declined, though it is no 2xx to an Upgrade")
	}
}

// RFC 9113 section 8.2.3: several Cookie lines are one to whoever is behind.
func TestCookies(t *testing.T) {
	d := decode(false, proxy.Fields{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "a"},
		{Name: "cookie", Value: "a=1"}, {Name: "x", Value: "y"}, {Name: "cookie", Value: "b=2"}})
	if bad := d.Request(); bad != "" {
		t.Fatal(bad)
	}
	if want := (proxy.Fields{{Name: "cookie", Value: "a=1; b=2"}, {Name: "x", Value: "y"}}); !slices.Equal(d.Fields, want) {
		t.Errorf("got %v, want %v", d.Fields, want)
	}
}

// RFC 9114 section 4.3.1: with the schemes http and https "the request MUST contain either an ":authority" pseudo-header field or a Host header
// field. If these fields are present, they MUST NOT be empty." A pillion passes on that an app's HTTP/1 request had none.
func TestAuthorityIsNeeded(t *testing.T) {
	for _, c := range []struct {
		scheme   string
		more     proxy.Fields
		verbatim bool
		ok       bool
	}{
		{"http", nil, false, false},
		{"https", nil, false, false},
		{"http", proxy.Fields{{Name: ":authority", Value: ""}}, false, false},
		{"http", proxy.Fields{{Name: "host", Value: ""}}, false, false},
		{"http", proxy.Fields{{Name: ":authority", Value: ""}, {Name: "host", Value: "a"}}, false, false},
		{"coap", proxy.Fields{{Name: ":authority", Value: ""}}, false, false},
		{"http", proxy.Fields{{Name: ":authority", Value: "a"}}, false, true},
		{"http", proxy.Fields{{Name: "host", Value: "a"}}, false, true},
		{"coap", nil, false, true},
		{"http", nil, true, true},
		{"http", proxy.Fields{{Name: "host", Value: ""}}, true, true},
	} {
		d := decode(c.verbatim, append(proxy.Fields{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: c.scheme}, {Name: ":path", Value: "/"}}, c.more...))
		if bad := d.Request(); (bad == "") != c.ok {
			t.Errorf("%s %v, verbatim %v: got %q, want it to pass: %v", c.scheme, c.more, c.verbatim, bad, c.ok)
		}
	}
}

func TestTooLarge(t *testing.T) {
	d := new(Decoder)
	d.Begin(100)
	if !d.Add("a", "b") || d.Add("c", string(make([]byte, 100))) || !d.TooLarge {
		t.Errorf("got %+v", d)
	}
	d.Begin(100)
	if d.TooLarge || len(d.Fields) != 0 || d.Length != proxy.Unknown {
		t.Errorf("begun again: %+v", d)
	}
}

// A Decoder says which fields there are that layers look for, and counts Hosts however they come.
func TestNames(t *testing.T) {
	var d Decoder
	for _, c := range []struct {
		fields proxy.Fields
		want   proxy.Names
		bad    string
	}{
		{proxy.Fields{{Name: "accept", Value: "*/*"}}, 0, ""},
		{proxy.Fields{{Name: "host", Value: "a"}, {Name: "content-length", Value: "0"}, {Name: "x-forwarded-for", Value: "b"}}, proxy.NameHost | proxy.NameLength | proxy.NameClaim, ""},
		{proxy.Fields{{Name: "Host", Value: "A"}, {Name: "PILLION-why", Value: "1"}}, proxy.NameHost | proxy.NameOwn, ""},
		{proxy.Fields{{Name: "accept", Value: "*/*"}, {Name: "host", Value: "a"}, {Name: "HOST", Value: "a"}}, proxy.NameHost, "bad Host"},
		{proxy.Fields{{Name: "host", Value: "b"}}, proxy.NameHost, "Host differs from :authority"},
		{proxy.Fields{{Name: "host", Value: "a b"}}, proxy.NameHost, "bad Host"},
	} {
		for _, plain := range []bool{false, true} {
			d.Verbatim = true
			d.Begin(10_000)
			for _, f := range (proxy.Fields{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}, {Name: ":path", Value: "/"}}) {
				d.Add(f.Name, f.Value)
			}
			for _, f := range c.fields {
				if plain && d.Plain(f.Name, f.Value) {
					d.AddPlain(f.Name, f.Value, proxy.NamesOf(f.Name))
				} else {
					d.Add(f.Name, f.Value)
				}
			}
			if bad := d.Request(); bad != c.bad || d.Names != c.want {
				t.Errorf("%v: %b, want %b; %q, want %q", c.fields, d.Names, c.want, bad, c.bad)
			}
		}
	}
}

// A Content-Length that was checked beforehand is taken as any other is.
func TestAddLength(t *testing.T) {
	for _, verbatim := range []bool{true, false} {
		d := decode(verbatim, nil)
		d.AddLength("Content-Length", "3", 3)
		d.AddLength("Content-Length", "3", 3)
		if d.Length != 3 || d.Bad != "" || len(d.Fields) != map[bool]int{true: 2, false: 0}[verbatim] {
			t.Errorf("verbatim %v: %d, %q, %v", verbatim, d.Length, d.Bad, d.Fields)
		}
		if d.AddLength("content-length", "4", 4); d.Bad == "" {
			t.Error("two lengths that differ")
		}
	}
}

// TestValidValue: each byte at each place of a value, whatever the word that it is looked at in.
func TestValidValue(t *testing.T) {
	for length := 1; length < 20; length++ {
		for at := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte{'a'}, length)
				b[at] = byte(c)
				want := c >= ' ' && c != 0x7f || c == '\t'
				if c == ' ' || c == '\t' {
					want = at != 0 && at != length-1
				}
				if got := ValidValue(string(b)); got != want {
					t.Errorf("%q: %v, want %v", b, got, want)
				}
			}
		}
	}
	if !ValidValue("") || !ValidValue("a\taaaaaa\u00e9\u00e9\u00e9\u00e9\u00e9b") || ValidValue("a\taaaaa\x00") {
		t.Error("several at once")
	}
}
