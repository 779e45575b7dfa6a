package http1

import (
	"bytes"

	"github.com/pillion-proxy/pillion/proxy"
)

const (
	maxFields  = 1000 // lines of one head; more are refused with 431
	maxOptions = 32   // connection options of one head that name other fields; more are refused
)

// head is what parseFields learns from the fields of one head beside the fields that it keeps.
type head struct {
	hosts   int32 // Host lines seen
	lengths int32 // Content-Length lines seen
	codings int32 // Transfer-Encoding lines seen
	names   proxy.Names
	valid   bool   // host is known to be valid
	chunked bool   // Transfer-Encoding is exactly "chunked"
	host    string // the value of the first Host
	length  int64  // the value of Content-Length
	coding  string // that of Transfer-Encoding if it is not "chunked"
	upgrade string // the first usable token of Upgrade
	expect  bool   // Expect: 100-continue

	// From Connection.
	close, keepAlive, upgrading bool
	options                     []string // others, that name fields to be removed
}

// reset makes h ready for another head, keeping the memory of options.
func (h *head) reset() { *h = head{options: h.options[:0]} }

// parseFields reads the field lines of b, which ends with the empty line, into fields and h. Lines that belong to
// this hop only are read into h and not kept:
//
// RFC 9110 section 7.6.1: "Intermediaries MUST parse a received Connection header field before a message is
// forwarded and, for each connection-option in this field, remove any header or trailer field(s) from the message
// with the same name as the connection-option, and then remove the Connection header field itself". And: "intermediaries SHOULD
// remove or replace fields that are known to require removal before forwarding, whether or not they appear as a
// connection-option", among them Proxy-Connection, Keep-Alive, TE, Transfer-Encoding, Upgrade.
//
// Lines that are in m need no more than a comparison; m may be nil.
func parseFields(b []byte, fields *proxy.Fields, h *head, m *Memory) (err *badMessage) {
	fs := (*fields)[:0]
	for n := 0; ; n++ {
		p := m.reading(n + 1)
		if l := p.begins(b); l != nil {
			if fs, err = h.take(l, fs); err != nil {
				return err
			}
			b = b[len(l.text):]
			continue
		}
		var line []byte
		line, b = nextLine(b)
		if len(line) == 0 {
			break
		}
		if n == maxFields {
			return &badMessage{431, "the head has more than 1000 fields"}
		}
		name, value, err := parseField(line)
		if err != nil {
			return err
		}
		keep, err := h.note(name, &value)
		if err != nil {
			return err
		}
		if keep {
			h.names |= proxy.NamesOf(name)
			fs = append(fs, proxy.Field{Name: name, Value: value})
		}
		m.learnField(p, line)
	}
	*fields = fs
	h.removeOptions(fields)
	return nil
}

// removeOptions removes the fields that Connection names.
func (h *head) removeOptions(fields *proxy.Fields) {
	for _, o := range h.options {
		fields.Del(o)
	}
}

// parseField splits one line.
//
// RFC 9112 section 5.1: "No whitespace is allowed between the field name and colon. [...] A server MUST reject, with a response status code of
// 400 (Bad Request), any received request message that contains whitespace between a header field name and colon."
// Section 5.2: "A server that receives an obs-fold in a request message that is not within a "message/http"
// container MUST either reject the message by sending a 400 (Bad Request) [...] or replace".
// RFC 9110 section 5.5: "Field values containing CR, LF, or NUL characters are invalid and dangerous".
func parseField(line []byte) (name, value string, err *badMessage) {
	i := 0
	for i < len(line) && class[line[i]]&isToken != 0 {
		i++
	}
	switch {
	case i < len(line) && i > 0 && line[i] == ':':
	case line[0] == ' ' || line[0] == '\t':
		return "", "", bad("a line of the head begins with whitespace (obs-fold)")
	case line[0] == ':':
		return "", "", bad("a field has no name")
	case i < len(line) && (line[i] == ' ' || line[i] == '\t') && bytes.IndexByte(line[i:], ':') > 0:
		return "", "", bad("whitespace between the name of a field and its colon: " + quoted(str(line[:i])))
	case i == len(line):
		return "", "", bad("a line of the head has no colon: " + quoted(str(line)))
	default:
		return "", "", bad("bad character in the name of a field: " + quoted(str(line[:i+1])))
	}
	v := trim(line[i+1:])
	if !validValue(v) {
		return "", "", bad("control character in the value of the field " + quoted(str(line[:i])))
	}
	return str(line[:i]), str(v), nil
}

// note reads the fields that concern the codec, which may replace value. It reports whether the line is passed on.
func (h *head) note(name string, value *string) (keep bool, err *badMessage) {
	switch len(name) {
	case 2:
		if foldEqual(name, "te") {
			return noteTE(value), nil
		}
	case 4:
		if foldEqual(name, "host") {
			if h.hosts++; h.hosts == 1 {
				h.host = *value
			}
		}
	case 6:
		if foldEqual(name, "expect") {
			h.expect = h.expect || foldEqual(*value, "100-continue")
		}
	case 7:
		if foldEqual(name, "upgrade") {
			h.noteUpgrade(*value)
			return false, nil
		}
	case 10:
		if foldEqual(name, "connection") {
			return false, h.noteConnection(*value)
		}
		return !foldEqual(name, "keep-alive"), nil
	case 14:
		if foldEqual(name, "content-length") {
			first := h.lengths == 0 // one stays, for its place and case
			return first, h.noteLength(*value)
		}
		// Only an upgrade to h2c has it, RFC 7540 section 3.2.1, and we never make one.
		return !foldEqual(name, "http2-settings"), nil
	case 16:
		return !foldEqual(name, "proxy-connection"), nil
	case 17:
		if foldEqual(name, "transfer-encoding") {
			h.codings++
			h.chunked = foldEqual(*value, "chunked")
			if !h.chunked {
				h.coding = *value
			}
			return false, nil
		}
	}
	return true, nil
}

// concernsUs reports whether note does anything about fields with this name.
func concernsUs(name string) bool {
	switch len(name) {
	case 2:
		return foldEqual(name, "te")
	case 4:
		return foldEqual(name, "host")
	case 6:
		return foldEqual(name, "expect")
	case 7:
		return foldEqual(name, "upgrade")
	case 10:
		return foldEqual(name, "connection") || foldEqual(name, "keep-alive")
	case 14:
		return foldEqual(name, "content-length") || foldEqual(name, "http2-settings")
	case 16:
		return foldEqual(name, "proxy-connection")
	case 17:
		return foldEqual(name, "transfer-encoding")
	}
	return false
}

// noteTE keeps of TE what we can answer for: that trailers are welcome, since we pass them on.
func noteTE(value *string) bool {
	for rest, more := *value, true; more; {
		var item string
		item, rest, more = nextItem(rest)
		if foldEqual(item, "trailers") {
			*value = item
			return true
		}
	}
	return false
}

// hidesRequests reports whether what follows an Upgrade to p would be requests that nobody here has looked at.
func hidesRequests(p string) bool { return foldEqual(p, "h2c") || foldEqual(p, "h2") }

// noteUpgrade keeps the first token that can be tunnelled.
func (h *head) noteUpgrade(value string) {
	for rest, more := value, true; more && h.upgrade == ""; {
		var item string
		item, rest, more = nextItem(rest)
		if item == "" || hidesRequests(item) || !validProtocol(item) {
			continue
		}
		h.upgrade = item
	}
}

// validProtocol reports whether p is a protocol of RFC 9110 section 7.8: a token, or two with a slash between them.
func validProtocol(p string) bool {
	for i := 0; i < len(p); i++ {
		if p[i] == '/' {
			return isTokenString(p[:i]) && isTokenString(p[i+1:])
		}
	}
	return isTokenString(p)
}

func (h *head) noteConnection(value string) *badMessage {
	for rest, more := value, true; more; {
		var item string
		item, rest, more = nextItem(rest)
		switch {
		case item == "":
		case foldEqual(item, "close"):
			h.close = true
		case foldEqual(item, "keep-alive"):
			h.keepAlive = true
		case foldEqual(item, "upgrade"):
			h.upgrading = true
		case !isTokenString(item):
			return bad("bad option in Connection: " + quoted(item))
		case neverOption(item):
		case len(h.options) == maxOptions:
			return bad("more than 32 options in Connection")
		default:
			h.options = append(h.options, item)
		}
	}
	return nil
}

// neverOption says which fields Connection cannot remove: those that say where the message goes and where it ends,
// who sends it, and TE, of which noteTE has kept what may pass.
//
// RFC 9110 section 7.6.1: "A sender MUST NOT send a connection option corresponding to a field that is intended
// for all recipients of the content. For example, Cache-Control is never appropriate as a connection option".
func neverOption(item string) bool {
	switch len(item) {
	case 2:
		return foldEqual(item, "te")
	case 4:
		return foldEqual(item, "host") || foldEqual(item, "date")
	case 6:
		return foldEqual(item, "cookie") || foldEqual(item, "expect")
	case 7:
		return foldEqual(item, "trailer")
	case 12:
		return foldEqual(item, "content-type")
	case 13:
		return foldEqual(item, "cache-control") || foldEqual(item, "authorization")
	case 14:
		return foldEqual(item, "content-length")
	case 16:
		return foldEqual(item, "content-encoding")
	case 17:
		return foldEqual(item, "transfer-encoding")
	}
	return false
}

// noteLength reads a Content-Length. RFC 9112 section 6.3: "If a message is received without Transfer-Encoding and
// with an invalid Content-Length header field, then the message framing is invalid and the recipient MUST treat
// it as an unrecoverable error, unless the field value can be successfully parsed as a comma-separated list,
// all values in the list are valid, and all values in the list are the same". Requests do not get that leave, see requestFraming.
func (h *head) noteLength(value string) *badMessage {
	if n, ok := parseLength(value); ok && h.lengths == 0 {
		h.lengths, h.length = 1, n
		return nil
	}
	for rest, more := value, true; more; {
		var item string
		item, rest, more = nextItem(rest)
		n, ok := parseLength(item)
		if !ok {
			return bad("bad Content-Length: " + quoted(value))
		}
		if h.lengths > 0 && n != h.length {
			return bad("differing Content-Lengths")
		}
		h.lengths++
		h.length = n
	}
	return nil
}

// parseLength reads 1*DIGIT that fits an int64.
func parseLength(v string) (int64, bool) {
	const most = 1<<63 - 1
	if v == "" {
		return 0, false
	}
	n := int64(0)
	for i := 0; i < len(v); i++ {
		c := v[i] - '0'
		if c > 9 || n > (most-int64(c))/10 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, true
}

// framingError is what both roles refuse.
//
// RFC 9112 section 6.1: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding
// [...] Regardless, the server MUST close the connection after responding to such a request". And: "A server or client that
// receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST treat the message as if the framing is
// faulty, even if a Content-Length is present, and close the connection".
func (h *head) framingError(v proxy.Version) *badMessage {
	switch {
	case h.codings == 0:
		return nil
	case v == proxy.HTTP10:
		return bad("Transfer-Encoding in an HTTP/1.0 message")
	case h.lengths > 0:
		return bad("both Transfer-Encoding and Content-Length")
	case h.codings > 1:
		return bad("more than one Transfer-Encoding")
	case !h.chunked && endsInOneChunked(h.coding):
		return &badMessage{501, "a Transfer-Encoding other than chunked: " + quoted(h.coding)}
	case !h.chunked:
		return bad("a Transfer-Encoding that does not end in chunked, once: " + quoted(h.coding))
	}
	return nil
}

// endsInOneChunked reports whether chunked is the last coding of the list, and only the last.
func endsInOneChunked(list string) bool {
	last := false
	for rest, more := list, true; more; {
		var item string
		item, rest, more = nextItem(rest)
		if last || !isTokenString(item) {
			return false
		}
		last = foldEqual(item, "chunked")
	}
	return last
}

// cleanTrailers removes trailer fields that could change what has been said or where the message ends.
//
// RFC 9110 section 6.5.1: "A sender MUST NOT generate a trailer field unless the sender knows the corresponding header field name's
// definition permits the sender to generate it in trailers": not those for framing, routing, authentication, or the nature of the content.
func cleanTrailers(fs *proxy.Fields) {
	kept := (*fs)[:0]
	for _, f := range *fs {
		if !neverTrailer(f.Name) {
			kept = append(kept, f)
		}
	}
	*fs = kept
}

func neverTrailer(name string) bool {
	switch len(name) {
	case 2:
		return foldEqual(name, "te")
	case 4:
		return foldEqual(name, "host")
	case 6:
		return foldEqual(name, "expect") || foldEqual(name, "cookie")
	case 7:
		return foldEqual(name, "trailer") || foldEqual(name, "upgrade")
	case 10:
		return foldEqual(name, "connection") || foldEqual(name, "keep-alive") || foldEqual(name, "set-cookie")
	case 12:
		return foldEqual(name, "content-type")
	case 13:
		return foldEqual(name, "authorization") || foldEqual(name, "content-range") || foldEqual(name, "cache-control")
	case 14:
		return foldEqual(name, "content-length")
	case 16:
		return foldEqual(name, "content-encoding") || foldEqual(name, "proxy-connection")
	case 17:
		return foldEqual(name, "transfer-encoding")
	}
	return false
}
