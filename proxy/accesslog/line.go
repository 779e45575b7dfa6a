package accesslog

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/observe"
)

func (l *Log) wanted(e *observe.Entry) bool {
	return l.cfg.What == All || e.Failed() || l.cfg.What == Sampled && rand.Float64() < l.cfg.Share
}

// line appends what there is to say of e. Names and their order are documented, and stay.
func (l *Log) line(b []byte, e *observe.Entry) []byte {
	w := writer{b: b, json: l.cfg.Format == JSON, first: true}
	req := e.Request
	w.begin()
	w.text("time", l.cfg.Now().UTC().Format("2006-01-02T15:04:05.000Z"))
	w.text("direction", e.Direction.String())
	w.text("shape", e.Shape.String())
	w.some("id", req.ID)
	if r := e.Record(); r.Trace.Valid() {
		w.text("trace", hex.EncodeToString(r.Trace.ID[:]))
	}
	if req.Client.IsValid() {
		w.text("client", req.Client.String())
	}
	if req.Peer != nil {
		w.text("caller", string(req.Peer.Identity))
	}
	w.some("service", req.Service.Name)
	w.number("port", int64(req.Service.Port), 0)
	w.number("route", int64(req.Rule), 0)
	w.text("method", req.Method)
	w.some("upgrade", req.Upgrade)
	w.some("authority", req.Authority)
	w.some("path", l.path(req.Path))
	w.some("protocol", protocol(req.Version))
	if req.Endpoint != nil {
		w.text("endpoint", req.Endpoint.String())
	}
	w.number("attempts", int64(len(e.Record().Attempts())), 0)
	w.number("status", int64(e.Status), 0)
	w.some("code", e.Code)
	w.number("grpc_status", int64(e.GRPC), -1)
	w.text("end", e.End.String())
	if e.Err != nil {
		w.text("error", e.Err.Error())
	}
	w.number("bytes_in", e.BytesIn, -1)
	w.number("bytes_out", e.BytesOut, -1)
	if e.Head != 0 {
		w.millis("head_ms", e.Head.Sub(e.Start))
		for i, d := range e.Parts.All() {
			if d > 0 {
				w.millis(partNames[i], d)
			}
		}
	}
	w.millis("duration_ms", e.Stop.Sub(e.Start))
	return w.end()
}

var partNames = [...]string{"queue_ms", "own_ms", "link_ms", "peer_ms", "app_ms"} // of observe.PartNames

func protocol(v proxy.Version) string {
	switch v {
	case proxy.HTTP10:
		return "HTTP/1.0"
	case proxy.HTTP11:
		return "HTTP/1.1"
	case proxy.HTTP2:
		return "HTTP/2"
	case proxy.HTTP3:
		return "HTTP/3"
	}
	return ""
}

// maxPath bounds a path, in bytes.
const maxPath = 2048

func (l *Log) path(p string) string {
	p = p[:min(len(p), maxPath)]
	before, query, has := strings.Cut(p, "?")
	if !l.cfg.Query || !has {
		return before
	}
	return before + "?" + Redact(query)
}

// Redact replaces the values in a query whose names look like those of secrets.
func Redact(query string) string {
	if query == "" {
		return ""
	}
	parts := strings.Split(query, "&")
	for i, p := range parts {
		if name, _, ok := strings.Cut(p, "="); ok && Secret(name) {
			parts[i] = name + "=***"
		}
	}
	return strings.Join(parts, "&")
}

// Secret reports whether a value of this name is kept out of logs.
func Secret(name string) bool {
	name = strings.ToLower(name)
	for _, s := range []string{"token", "secret", "password", "passwd", "pwd", "apikey", "api_key", "api-key", "auth", "signature", "credential", "session", "cookie"} {
		if strings.Contains(name, s) {
			return true
		}
	}
	return name == "key" || name == "sig" || name == "code"
}

// writer appends the pairs of a line.
type writer struct {
	b           []byte
	json, first bool
}

func (w *writer) begin() {
	if w.json {
		w.b = append(w.b, '{')
	}
}

func (w *writer) end() []byte {
	if w.json {
		w.b = append(w.b, '}')
	}
	return append(w.b, '\n')
}

func (w *writer) name(n string) {
	switch {
	case w.json && !w.first:
		w.b = append(w.b, ',')
	case !w.first:
		w.b = append(w.b, ' ')
	}
	w.first = false
	if w.json {
		w.b = append(append(append(w.b, '"'), n...), '"', ':')
		return
	}
	w.b = append(append(w.b, n...), '=')
}

// some writes a text that is not empty.
func (w *writer) some(name, value string) {
	if value != "" {
		w.text(name, value)
	}
}

func (w *writer) text(name, value string) {
	w.name(name)
	if !w.json && plain(value) {
		w.b = append(w.b, value...)
		return
	}
	w.b = appendQuoted(w.b, value)
}

// plain reports whether a text needs no quotes in key=value.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == '"' || c == '=' || c >= 0x7f {
			return false
		}
	}
	return s != ""
}

// number writes n unless it is none.
func (w *writer) number(name string, n, none int64) {
	if n != none {
		w.name(name)
		w.b = strconv.AppendInt(w.b, n, 10)
	}
}

func (w *writer) millis(name string, d time.Duration) {
	w.name(name)
	w.b = strconv.AppendFloat(w.b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

// appendQuoted writes a JSON string, RFC 8259 section 7. Bytes that are no UTF-8 become U+FFFD.
func appendQuoted(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += size
			continue
		}
		i++
	}
	return append(b, '"')
}
