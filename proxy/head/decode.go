package head

import (
	"strings"

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

	status, declined string

	max     int
	size    int
	bad     string // what makes the message malformed
	regular bool   // a regular field has been seen
	cookies int
}

// Begin makes d ready for the next list, of at most max bytes as RFC 9113 section 6.5.2 and RFC 9114 section 4.2.2 count them.
func (d *Decoder) Begin(max int) {
	clear(d.Fields)
	*d = Decoder{Verbatim: d.Verbatim, max: max, Fields: d.Fields[:0], Length: proxy.Unknown}
}

// Add takes the next line, and reports whether more are wanted: not once the list is too large.
func (d *Decoder) Add(name, value string) bool {
	d.size += len(name) + len(value) + overhead
	if d.size > d.max {
		d.TooLarge = true
		return false
	}
	if d.bad != "" {
		return true
	}
	if name != "" && name[0] == ':' {
		d.bad = d.pseudo(name, value)
		return true
	}
	d.regular = true
	d.bad = d.field(name, value)
	return true
}

// usualFields is room for the fields of most messages.
const usualFields = 12

// overhead is what each line counts beside its strings, in bytes.
const overhead = 32

func (d *Decoder) pseudo(name, value string) string {
	var p Pseudo
	var to *string
	switch name {
	case ":method":
		p, to = Method, &d.Method
	case ":scheme":
		p, to = Scheme, &d.Scheme
	case ":authority":
		p, to = Authority, &d.Authority
	case ":path":
		p, to = Path, &d.Path
	case ":protocol":
		p, to = Protocol, &d.Protocol
	case ":status":
		p, to = Status, &d.status
	case ":reason", ":declined":
		p, to = Reason, &d.Reason
		if name == ":declined" {
			p, to = Declined, &d.declined
		}
		if !d.Verbatim {
			return "unknown pseudo-header field"
		}
	default:
		return "unknown pseudo-header field"
	}
	if d.regular {
		// RFC 9113 section 8.3: "All pseudo-header fields MUST appear in a field block before all regular field lines."
		return "pseudo-header field after a regular field"
	}
	if d.Have&p != 0 {
		return "pseudo-header field twice"
	}
	if !ValidValue(value) {
		return "bad character in a pseudo-header field"
	}
	d.Have |= p
	*to = value
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
	if d.Fields == nil {
		d.Fields = make(proxy.Fields, 0, usualFields)
	}
	d.Fields = append(d.Fields, proxy.Field{Name: name, Value: value})
	return ""
}

// contentLength notes the length. Between pillions the line keeps its place in the list, else it leaves it: framing is the codecs'.
func (d *Decoder) contentLength(value string) string {
	n, ok := ParseLength(value)
	if !ok || d.Length != proxy.Unknown && d.Length != n {
		return "bad content-length"
	}
	d.Length = n
	return ""
}

// Request checks what makes the list a request, and says what is wrong, or "". Several Cookie lines become one.
func (d *Decoder) Request() string {
	switch {
	case d.bad != "":
		return d.bad
	case d.Have&(Status|Reason|Declined) != 0:
		return "response pseudo-header field in a request"
	case !ValidToken(d.Method):
		return "bad :method"
	case d.Have&Authority != 0 && !ValidAuthority(d.Authority):
		return "bad :authority"
	}
	if bad := d.host(); bad != "" {
		return bad
	}
	d.joinCookies()
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
	i := d.Fields.Index("host")
	if i < 0 {
		return ""
	}
	host := d.Fields[i].Value
	if !ValidAuthority(host) || d.Fields[i+1:].Has("host") {
		return "bad Host"
	}
	if d.Have&Authority == 0 {
		d.Authority = host
	} else if !strings.EqualFold(host, d.Authority) {
		return "Host differs from :authority"
	}
	if !d.Verbatim {
		d.Fields.Del("host")
	}
	return ""
}

// Response checks what makes the list a response, and returns its status, or says what is wrong.
func (d *Decoder) Response() (status int, bad string) {
	if d.bad != "" {
		return 0, d.bad
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
	if d.bad == "" && d.Have != 0 {
		// RFC 9113 section 8.1: "Trailers MUST NOT include pseudo-header fields".
		return "pseudo-header field in trailers"
	}
	return d.bad
}

// joinCookies makes one field of several. RFC 9113 section 8.2.3: "If there are multiple Cookie header fields
// after decompression, these MUST be concatenated into a single octet string using the two-octet delimiter of 0x3b, 0x20".
func (d *Decoder) joinCookies() {
	if d.cookies < 2 {
		return
	}
	var b strings.Builder
	first := -1
	kept := d.Fields[:0]
	for _, f := range d.Fields {
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
	kept[first].Value = b.String()
	d.Fields = kept
}
