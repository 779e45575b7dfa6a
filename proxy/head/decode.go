package head

import (
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
)

// Pseudo is a set of pseudo-header fields.
type Pseudo uint8

const (
	Method Pseudo = 1 << iota
	Scheme
	Authority
	Path
	Protocol
	Status
	Reason   // between pillions only
	Declined // the same
)

// Decoder takes one field list at a time, line by line, and checks what can be checked line by line. Its zero value is not ready:
// call Begin. It keeps the strings that it is given.
type Decoder struct {
	// Verbatim: both ends are pillions. It may be set between lists.
	Verbatim bool

	// Of the present list.

	Method, Scheme, Authority, Path, Protocol string

	Reason   string
	Have     Pseudo
	Fields   proxy.Fields // without Host and Content-Length, unless Verbatim
	TooLarge bool         // the list is larger than allowed; what came after that was dropped
	Length   int64        // content-length, or proxy.Unknown
	Expect   bool         // 100-continue
	Names    proxy.Names  // what Fields have, as far as layers care

	Took, AppTook time.Duration // of AddTook
	Bad           string        // what makes the list malformed whatever it is for, so far

	status string

	max     int
	size    int
	regular bool // a regular field has been seen
	cookies int
	hosts   int
	host1   int // the place of the first of them in Fields

	valid string // the last :authority that was looked at and is valid
}

// Begin makes d ready for the next list, of at most max bytes as RFC 9113 section 6.5.2 and RFC 9114 section 4.2.2 count them.
func (d *Decoder) Begin(max int) {
	clear(d.Fields)
	if d.Fields == nil {
		d.Fields = make(proxy.Fields, 0, usualFields)
	}
	verbatim, fields, valid := d.Verbatim, d.Fields[:0], d.valid
	*d = Decoder{} // cleared in place, which is cheaper than a copy
	d.Verbatim, d.Fields, d.valid, d.max, d.Length = verbatim, fields, valid, max, proxy.Unknown
}

// Save copies the list so far to m, which is given back by Restore only.
func (d *Decoder) Save(m *Decoder) {
	fields := append(m.Fields[:0], d.Fields...)
	*m = *d
	m.Fields = fields
}

// Restore is Begin, and all that was added before Save, as long as Verbatim and the size allowed are the same.
func (d *Decoder) Restore(m *Decoder) {
	clear(d.Fields)
	fields, valid := append(d.Fields[:0], m.Fields...), d.valid
	*d = *m
	d.Fields, d.valid = fields, valid
}

// Add takes the next line, and reports whether more are wanted: not once the list is too large.
func (d *Decoder) Add(name, value string) bool {
	if !d.count(name, value) {
		return !d.TooLarge
	}
	if name != "" && name[0] == ':' {
		d.Bad = d.pseudo(name, value)
		return true
	}
	d.regular = true
	d.Bad = d.field(name, value)
	return true
}

// AddPlain takes a line for whose name and value the Decoder has no rule, as Plain reported: the way for lines that recur. names is proxy.NamesOf the name.
func (d *Decoder) AddPlain(name, value string, names proxy.Names) {
	if d.count(name, value) {
		d.regular = true
		d.append(name, value, names)
	}
}

func (d *Decoder) append(name, value string, names proxy.Names) {
	d.Names |= names
	if names&proxy.NameHost != 0 {
		if d.hosts++; d.hosts == 1 {
			d.host1 = len(d.Fields)
		}
	}
	d.Fields = append(d.Fields, proxy.Field{Name: name, Value: value})
}

// AddLength takes a valid Content-Length line that says n.
func (d *Decoder) AddLength(name, value string, n int64) {
	if !d.count(name, value) {
		return
	}
	d.regular = true
	if d.Length != proxy.Unknown && d.Length != n {
		d.Bad = badLength
		return
	}
	if d.Length = n; d.Verbatim {
		d.append(name, value, proxy.NameLength)
	}
}

// AddTook takes a line with proxy.TookField, which is for the sidecar and not kept. It does not keep the value.
func (d *Decoder) AddTook(name, value string) {
	if d.count(name, value) {
		d.regular = true
		d.Took, d.AppTook, _ = proxy.ParseTook(value)
	}
}

const badLength = "bad content-length"

// AddPseudo takes a pseudo-header line whose value is valid, and whose name is that of p.
func (d *Decoder) AddPseudo(p Pseudo, name, value string) {
	if d.count(name, value) {
		d.Bad = d.place(p, value)
	}
}

// count notes the size of a line and reports whether it is to be looked at.
func (d *Decoder) count(name, value string) bool {
	d.size += len(name) + len(value) + overhead
	if d.size > d.max {
		d.TooLarge = true
		return false
	}
	return d.Bad == ""
}

// usualFields is room for the fields of most messages.
const usualFields = 12

// overhead is what each line counts beside its strings, in bytes.
const overhead = 32

// Plain reports whether a regular line can be added with AddPlain, as long as Verbatim stays.
func (d *Decoder) Plain(name, value string) bool {
	switch { // field looks at these
	case proxy.SameName(name, "te"), proxy.SameName(name, "cookie"), proxy.SameName(name, "expect"), IsContentLength(name):
		return false
	}
	return ValidName(name, d.Verbatim) && ValidValue(value) && !ConnectionSpecific(name)
}

// Part says which pseudo-header field has this name; 0 if there is none.
func (d *Decoder) Part(name string) Pseudo {
	switch name {
	case ":method":
		return Method
	case ":scheme":
		return Scheme
	case ":authority":
		return Authority
	case ":path":
		return Path
	case ":protocol":
		return Protocol
	case ":status":
		return Status
	}
	switch {
	case d.Verbatim && name == ":reason":
		return Reason
	case d.Verbatim && name == ":declined":
		return Declined
	}
	return 0
}

func (d *Decoder) pseudo(name, value string) string {
	p := d.Part(name)
	if p == 0 {
		return "unknown pseudo-header field"
	}
	if !ValidValue(value) {
		return "bad character in a pseudo-header field"
	}
	return d.place(p, value)
}

// place puts the value of a pseudo-header field where it belongs.
func (d *Decoder) place(p Pseudo, value string) string {
	if d.regular {
		// RFC 9113 section 8.3: "All pseudo-header fields MUST appear in a field block before all regular field lines."
		return "pseudo-header field after a regular field"
	}
	if d.Have&p != 0 {
		return "pseudo-header field twice"
	}
	d.Have |= p
	switch p {
	case Method:
		d.Method = value
	case Scheme:
		d.Scheme = value
	case Authority:
		d.Authority = value
	case Path:
		d.Path = value
	case Protocol:
		d.Protocol = value
	case Status:
		d.status = value
	case Reason:
		d.Reason = value
	}
	return ""
}

func (d *Decoder) field(name, value string) string {
	if !ValidName(name, d.Verbatim) {
		return "bad field name"
	}
	if !ValidValue(value) {
		return "bad field value"
	}
	if ConnectionSpecific(name) {
		return "connection-specific field"
	}
	switch len(name) {
	case len("te"):
		if strings.EqualFold(name, "te") && !strings.EqualFold(value, "trailers") {
			return "TE other than trailers"
		}
	case len("cookie"): // and expect
		if strings.EqualFold(name, "cookie") {
			d.cookies++
		}
		if strings.EqualFold(name, "expect") && strings.EqualFold(value, "100-continue") {
			d.Expect = true
		}
	case len("content-length"):
		if strings.EqualFold(name, "content-length") {
			if bad := d.contentLength(value); bad != "" || !d.Verbatim {
				return bad
			}
		}
	}
	d.append(name, value, proxy.NamesOf(name))
	return ""
}

// contentLength notes the length. Between pillions the line keeps its place in the list, else it leaves it: framing is the codecs'.
func (d *Decoder) contentLength(value string) string {
	n, ok := ParseLength(value)
	if !ok || d.Length != proxy.Unknown && d.Length != n {
		return badLength
	}
	d.Length = n
	return ""
}

// Request checks what makes the list a request, and says what is wrong, or "". Several Cookie lines become one.
func (d *Decoder) Request() string {
	switch {
	case d.Bad != "":
		return d.Bad
	case d.Have&(Status|Reason|Declined) != 0:
		return "response pseudo-header field in a request"
	case !ValidToken(d.Method):
		return "bad :method"
	case d.Have&Authority != 0 && !d.validAuthority(d.Authority):
		return "bad :authority"
	}
	if bad := d.host(); bad != "" {
		return bad
	}
	if d.cookies > 1 {
		d.Fields = joinCookies(d.Fields)
	}
	if d.Method == "CONNECT" && d.Have&Protocol == 0 {
		// RFC 9113 section 8.5: "The ":scheme" and ":path" pseudo-header fields MUST be omitted."
		if d.Have&(Scheme|Path) != 0 || d.Authority == "" {
			return "bad pseudo-header fields for CONNECT"
		}
		return ""
	}
	switch {
	case d.Have&Protocol != 0 && (d.Method != "CONNECT" || !ValidToken(d.Protocol)):
		return "bad :protocol"
	case d.Have&Scheme == 0 || !ValidScheme(d.Scheme):
		return "bad :scheme"
	case d.Have&Path == 0 || !ValidPath(d.Path, d.Method):
		return "bad :path"
	case d.Have&Protocol != 0 && d.Authority == "":
		return "no :authority"
	case d.Authority == "" && !d.Verbatim && (d.Scheme == "http" || d.Scheme == "https"):
		// RFC 9114 section 4.3.1: "If the ":scheme" pseudo-header field identifies a scheme that has a mandatory authority component (including "http"
		// and "https"), the request MUST contain either an ":authority" pseudo-header field or a Host header field. If these fields are present, they MUST
		// NOT be empty." RFC 9113 section 8.3.1 means the same. Between pillions an app's HTTP/1 request keeps the want of it.
		return "neither :authority nor Host"
	case d.Have&Authority != 0 && d.Authority == "" && !d.Verbatim:
		return "empty :authority"
	}
	return ""
}

// ValidScheme reports whether s may be a :scheme.
func ValidScheme(s string) bool {
	return s == "http" || s == "https" || ValidToken(s)
}

// host compares Host with :authority. RFC 9113 section 8.3.1: "A server SHOULD treat a request as malformed if it
// contains a Host header field that identifies an entity that differs from the entity in the ":authority"
// pseudo-header field." RFC 9114 section 4.3.1 makes that a MUST. Between pillions the line keeps its place, else :authority is enough.
func (d *Decoder) host() string {
	if d.hosts == 0 {
		return ""
	}
	host := d.Fields[d.host1].Value
	if d.hosts > 1 || !d.validAuthority(host) {
		return "bad Host"
	}
	if d.Have&Authority == 0 {
		d.Authority = host
	} else if host != d.Authority && !strings.EqualFold(host, d.Authority) {
		return "Host differs from :authority"
	}
	if !d.Verbatim {
		d.Fields.Del("host")
	}
	return ""
}

// validAuthority is ValidAuthority, which is asked once of a name that recurs.
func (d *Decoder) validAuthority(s string) bool {
	if s == d.valid {
		return true
	}
	if !ValidAuthority(s) {
		return false
	}
	d.valid = s
	return true
}

// Response checks what makes the list a response, and returns its status, or says what is wrong.
func (d *Decoder) Response() (status int, bad string) {
	if d.Bad != "" {
		return 0, d.Bad
	}
	if d.Have&^(Status|Reason|Declined) != 0 {
		return 0, "request pseudo-header field in a response"
	}
	status, ok := ParseStatus(d.status)
	if !ok || status == 101 {
		// RFC 9113 section 8.6: "HTTP/2 does not support the 101 (Switching Protocols) informational status code"; nor does
		// HTTP/3 (RFC 9114 section 4.5).
		return 0, "bad :status"
	}
	return status, ""
}

// Trailers checks a list that ends a message, and says what is wrong, or "".
func (d *Decoder) Trailers() string {
	if d.Bad == "" && d.Have != 0 {
		// RFC 9113 section 8.1: "Trailers MUST NOT include pseudo-header fields".
		return "pseudo-header field in trailers"
	}
	return d.Bad
}

// joinCookies makes one field of several, in the place of the first. RFC 9113 section 8.2.3: "If there are multiple Cookie header fields
// after decompression, these MUST be concatenated into a single octet string using the two-octet delimiter of 0x3b, 0x20".
func joinCookies(fields proxy.Fields) proxy.Fields {
	var b strings.Builder
	first := -1
	kept := fields[:0]
	for _, f := range fields {
		if !strings.EqualFold(f.Name, "cookie") {
			kept = append(kept, f)
			continue
		}
		if first < 0 {
			first = len(kept)
			kept = append(kept, f)
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Value)
	}
	if first >= 0 {
		kept[first].Value = b.String()
	}
	return kept
}
