package http2

import (
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/head"
)

// pseudo is a set of pseudo-header fields.
type pseudo uint8

const (
	pseudoMethod pseudo = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
	pseudoReason   // between pillions only
	pseudoDeclined // the same
)

// headDecoder decodes one header block at a time (RFC 7541) and checks what can be checked field by field. The strings are the
// decoder's, and nobody writes to them later.
type headDecoder struct {
	headRules
	table decoderTable
	saved []byte // the incomplete end of the block so far

	blockSeen
}

// headRules outlast a block.
type headRules struct {
	max   int  // bytes of a list
	upper bool // both ends are pillions
}

// blockSeen is what the present block has said so far.
type blockSeen struct {
	method, scheme, authority, path, protocol, status, reason, declined string

	have      pseudo
	fields    proxy.Fields
	size      int
	tooLarge  bool   // the rest is decoded for the table's sake only
	bad       string // what makes the message malformed
	regular   bool   // a regular field has been seen
	length    int64  // content-length, or proxy.Unknown
	cookies   int
	expect    bool
	updatable bool // no pair has been decoded yet
}

func (d *headDecoder) init(max int) {
	d.max = max
	d.table.max = defaultHeaderTableSize
}

// setUpper says whether both ends are pillions.
func (d *headDecoder) setUpper(upper bool) {
	if d.upper != upper {
		d.upper = upper
		d.table.distrust()
	}
}

// begin makes d ready for the next block.
func (d *headDecoder) begin() {
	clear(d.fields)
	d.blockSeen = blockSeen{fields: d.fields[:0], length: proxy.Unknown, updatable: true}
	d.saved = d.saved[:0]
	if cap(d.saved) > keptSaved {
		d.saved = nil
	}
}

// keptSaved is how much memory, in bytes, a decoder keeps for blocks that come in pieces.
const keptSaved = 4 << 10

// classify checks a new entry of the table.
func (d *headDecoder) classify(e *tableEntry) {
	if len(e.name) > 0 && e.name[0] == ':' {
		if part := d.part(e.name); part != 0 && head.ValidValue(e.value) {
			e.kind, e.part = entryPseudo, part
		}
		return
	}
	switch len(e.name) {
	case len("te"), len("cookie"), len("content-length"): // field looks at these
		return
	}
	if head.ValidName(e.name, d.upper) && head.ValidValue(e.value) && !head.ConnectionSpecific(e.name) {
		e.kind = entryPlain
	}
}

// take adds a pair to the block.
func (d *headDecoder) take(e *tableEntry) {
	d.size += e.size()
	switch {
	case d.size > d.max:
		d.tooLarge = true
	case d.bad != "":
	case e.kind == entryPlain:
		d.regular = true
		d.fields = append(d.fields, proxy.Field{Name: e.name, Value: e.value})
	case e.kind == entryPseudo:
		d.bad = d.place(e.part, e.value)
	case len(e.name) > 0 && e.name[0] == ':':
		d.bad = d.pseudo(e.name, e.value)
	default:
		d.regular = true
		d.bad = d.field(e.name, e.value)
	}
}

// part says which pseudo-header field has this name; 0 if there is none.
func (d *headDecoder) part(name string) pseudo {
	switch name {
	case ":method":
		return pseudoMethod
	case ":scheme":
		return pseudoScheme
	case ":authority":
		return pseudoAuthority
	case ":path":
		return pseudoPath
	case ":protocol":
		return pseudoProtocol
	case ":status":
		return pseudoStatus
	}
	switch {
	case d.upper && name == ":reason":
		return pseudoReason
	case d.upper && name == ":declined":
		return pseudoDeclined
	}
	return 0
}

func (d *headDecoder) pseudo(name, value string) string {
	part := d.part(name)
	if part == 0 {
		return "unknown pseudo-header field"
	}
	if !head.ValidValue(value) {
		return "bad character in a pseudo-header field"
	}
	return d.place(part, value)
}

// place puts the value of a pseudo-header field where it belongs.
func (d *headDecoder) place(p pseudo, value string) string {
	if d.regular {
		// RFC 9113 section 8.3: "All pseudo-header fields MUST appear in a field block before all regular field lines."
		return "pseudo-header field after a regular field"
	}
	if d.have&p != 0 {
		return "pseudo-header field twice"
	}
	d.have |= p
	switch p {
	case pseudoMethod:
		d.method = value
	case pseudoScheme:
		d.scheme = value
	case pseudoAuthority:
		d.authority = value
	case pseudoPath:
		d.path = value
	case pseudoProtocol:
		d.protocol = value
	case pseudoStatus:
		d.status = value
	case pseudoReason:
		d.reason = value
	case pseudoDeclined:
		d.declined = value
	}
	return ""
}

func (d *headDecoder) field(name, value string) string {
	if !head.ValidName(name, d.upper) {
		return "bad field name"
	}
	if !head.ValidValue(value) {
		return "bad field value"
	}
	if head.ConnectionSpecific(name) {
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
			d.expect = true
		}
	case len("content-length"):
		if strings.EqualFold(name, "content-length") {
			if bad := d.contentLength(value); bad != "" || !d.upper {
				return bad
			}
		}
	}
	d.fields = append(d.fields, proxy.Field{Name: name, Value: value})
	return ""
}

// contentLength notes the length. Between pillions the line keeps its place in the list, else it leaves it: framing is the codecs'.
func (d *headDecoder) contentLength(value string) string {
	n, ok := head.ParseLength(value)
	if !ok || d.length != proxy.Unknown && d.length != n {
		return "bad content-length"
	}
	d.length = n
	return ""
}

// request checks what makes a field list a request. connect says that extended CONNECT was offered.
func (d *headDecoder) request() string {
	switch {
	case d.bad != "":
		return d.bad
	case d.have&(pseudoStatus|pseudoReason|pseudoDeclined) != 0:
		return "response pseudo-header field in a request"
	case !head.ValidToken(d.method):
		return "bad :method"
	case d.have&pseudoAuthority != 0 && !head.ValidAuthority(d.authority):
		return "bad :authority"
	}
	if bad := d.host(); bad != "" {
		return bad
	}
	if d.method == "CONNECT" && d.have&pseudoProtocol == 0 {
		// RFC 9113 section 8.5: "The ":scheme" and ":path" pseudo-header fields MUST be omitted."
		if d.have&(pseudoScheme|pseudoPath) != 0 || d.authority == "" {
			return "bad pseudo-header fields for CONNECT"
		}
		return ""
	}
	switch {
	case d.have&pseudoProtocol != 0 && (d.method != "CONNECT" || !head.ValidToken(d.protocol)):
		return "bad :protocol"
	case d.have&pseudoScheme == 0 || !head.ValidScheme(d.scheme):
		return "bad :scheme"
	case d.have&pseudoPath == 0 || !head.ValidPath(d.path, d.method):
		return "bad :path"
	case d.have&pseudoProtocol != 0 && d.authority == "":
		return "no :authority"
	}
	return ""
}

// host compares Host with :authority. RFC 9113 section 8.3.1: "A server SHOULD treat a request as malformed if it
// contains a Host header field that identifies an entity that differs from the entity in the ":authority"
// pseudo-header field." Between pillions the line keeps its place, else :authority is enough.
func (d *headDecoder) host() string {
	i := d.fields.Index("host")
	if i < 0 {
		return ""
	}
	host := d.fields[i].Value
	if !head.ValidAuthority(host) || d.fields[i+1:].Has("host") {
		return "bad Host"
	}
	if d.have&pseudoAuthority == 0 {
		d.authority = host
	} else if !strings.EqualFold(host, d.authority) {
		return "Host differs from :authority"
	}
	if !d.upper {
		d.fields.Del("host")
	}
	return ""
}

// response checks what makes a field list a response, and returns its status.
func (d *headDecoder) response() (int, string) {
	if d.bad != "" {
		return 0, d.bad
	}
	if d.have&^(pseudoStatus|pseudoReason|pseudoDeclined) != 0 {
		return 0, "request pseudo-header field in a response"
	}
	status, ok := head.ParseStatus(d.status)
	if !ok || status == 101 {
		// RFC 9113 section 8.6: "HTTP/2 does not support the 101 (Switching Protocols) informational status code".
		return 0, "bad :status"
	}
	return status, ""
}

// trailers checks a field list that ends a message.
func (d *headDecoder) trailers() string {
	if d.bad == "" && d.have != 0 {
		// RFC 9113 section 8.1: "Trailers MUST NOT include pseudo-header fields".
		return "pseudo-header field in trailers"
	}
	return d.bad
}

// joinCookies makes one field of several. RFC 9113 section 8.2.3: "If there are multiple Cookie header fields
// after decompression, these MUST be concatenated into a single octet string using the two-octet delimiter of 0x3b, 0x20".
func (d *headDecoder) joinCookies() {
	if d.cookies < 2 {
		return
	}
	var b strings.Builder
	first := -1
	kept := d.fields[:0]
	for _, f := range d.fields {
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
	d.fields = kept
}
