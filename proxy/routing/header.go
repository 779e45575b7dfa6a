package routing

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// Header is what a field of a request must be like. A request with several lines of that name needs one that is like it.
type Header struct {
	Name string
	text string
	kind headerKind
}

type headerKind uint8

const (
	headerExact headerKind = iota
	headerPrefix
	headerPresent
)

// ParseHeader reads the form of a field's value: "blue" is this text and no other, "blue*" any text that begins with it, "*" any at all, so that the field
// need only be there.
func ParseHeader(name, value string) (Header, error) {
	if err := CheckFieldName(name); err != nil {
		return Header{}, err
	}
	text, open := strings.CutSuffix(value, "*")
	h := Header{Name: name, text: text}
	switch {
	case open && text == "":
		h.kind = headerPresent
	case open:
		h.kind = headerPrefix
	}
	if strings.Contains(text, "*") {
		return Header{}, errors.New("* stands at the end, for whatever follows")
	}
	return h, CheckFieldValue(text)
}

// String is the value as ParseHeader has read it.
func (h Header) String() string {
	if h.kind == headerExact {
		return h.text
	}
	return h.text + "*"
}

func (h *Header) match(fields proxy.Fields) bool {
	for i := range fields {
		f := &fields[i]
		if len(f.Name) == len(h.Name) && strings.EqualFold(f.Name, h.Name) && h.matchValue(f.Value) {
			return true
		}
	}
	return false
}

func (h *Header) matchValue(v string) bool {
	switch h.kind {
	case headerExact:
		return v == h.text
	case headerPrefix:
		return strings.HasPrefix(v, h.text)
	default:
		return true
	}
}

// covers reports whether every field that is like o is like h too.
func (h *Header) covers(o *Header) bool {
	if !strings.EqualFold(h.Name, o.Name) {
		return false
	}
	switch h.kind {
	case headerExact:
		return o.kind == headerExact && o.text == h.text
	case headerPrefix:
		return o.kind != headerPresent && strings.HasPrefix(o.text, h.text)
	default:
		return true
	}
}

// CheckFieldName says why name cannot be that of a field.
func CheckFieldName(name string) error {
	for i := range len(name) {
		if !isTokenByte(name[i]) {
			return fmt.Errorf("%q is no name of a header", name)
		}
	}
	if name == "" {
		return errors.New("a header needs a name")
	}
	return nil
}

// isTokenByte is tchar of RFC 9110 section 5.6.2.
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// CheckFieldValue says why value cannot be that of a field.
func CheckFieldValue(value string) error {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return errors.New("the value of a header has no control characters")
		}
	}
	if strings.Trim(value, " \t") != value {
		return errors.New("the value of a header neither begins nor ends with a space")
	}
	return nil
}

// GRPC is a service, a method, or both, of gRPC. The zero value is none.
type GRPC struct {
	Service, Method string // "" is any
	Set             bool
}

// ParseGRPC reads "shop.Billing/Charge", "shop.Billing" (every method of it), "*/Charge" or "*" (every call).
func ParseGRPC(s string) (GRPC, error) {
	service, method, both := strings.Cut(s, "/")
	if service == "*" {
		service = ""
	}
	if method == "*" {
		method = ""
	}
	if s == "" || both && s[len(s)-1] == '/' || strings.HasPrefix(s, "/") || !isDotted(service) || method != "" && !isName(method) {
		return GRPC{}, errors.New("a gRPC method is written as in shop.Billing/Charge, a whole service as in shop.Billing")
	}
	return GRPC{service, method, true}, nil
}

func isDotted(s string) bool {
	if s == "" {
		return true
	}
	for part := range strings.SplitSeq(s, ".") {
		if !isName(part) {
			return false
		}
	}
	return true
}

// String is what ParseGRPC reads, "" for the zero value.
func (g GRPC) String() string {
	service := g.Service
	if service == "" {
		service = "*"
	}
	switch {
	case !g.Set:
		return ""
	case g.Method == "":
		return service
	default:
		return service + "/" + g.Method
	}
}

// path is the form of the paths of its calls.
func (g GRPC) path() Path {
	p := Path{text: "/" + g.String(), segments: []segment{{text: g.Service}, {text: g.Method}}}
	if g.Service == "" {
		p.segments[0].name = "service"
	}
	if g.Method == "" {
		p.segments[1].name = "method"
	}
	return p
}
