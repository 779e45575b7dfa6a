package routing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Path is a form that paths of requests have, parsed: see ParsePath. The zero value is every path.
type Path struct {
	text     string
	segments []segment
	rest     bool // anything may follow, from a slash on
}

// segment is what stands between two slashes: a text, or anything but nothing, under a name.
type segment struct {
	text string
	name string
}

// maxSegments bounds a Path, so that what its names stand for has a place.
const maxSegments = 32

// ParsePath reads a form of path. "/users" is this path and no other (Exact of the Gateway API). "/users/*" is /users and all below it, by whole
// segments (PathPrefix). "/users/{id}/posts" has any one segment at {id}. "/*" is every path. The query is no part of it.
func ParsePath(s string) (Path, error) {
	switch {
	case !strings.HasPrefix(s, "/"):
		return Path{}, errors.New("a path begins with a slash, as in /users/* or /users/{id}")
	case strings.ContainsAny(s, "?#"):
		return Path{}, errors.New("a path has no query; write what stands before the question mark")
	}
	p := Path{text: s}
	body, rest := strings.CutSuffix(s, "/*")
	p.rest = rest
	if body == "" && rest {
		return p, nil
	}
	for text := range strings.SplitSeq(body[1:], "/") {
		seg, err := parseSegment(text)
		if err != nil {
			return Path{}, err
		}
		if seg.name != "" && slices.ContainsFunc(p.segments, func(o segment) bool { return o.name == seg.name }) {
			return Path{}, fmt.Errorf("{%s} stands there twice; give each its own name", seg.name)
		}
		p.segments = append(p.segments, seg)
	}
	if len(p.segments) > maxSegments {
		return Path{}, fmt.Errorf("a path has %d segments at most", maxSegments)
	}
	return p, nil
}

func parseSegment(text string) (segment, error) {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f {
			return segment{}, errors.New("a path is written as it is sent: visible ASCII characters, others as in %20")
		}
	}
	name, open := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	switch {
	case open && closed && isName(name):
		return segment{name: name}, nil
	case open && closed:
		return segment{}, fmt.Errorf("{%s} is no name; write letters, digits and underscores, as in {id}", name)
	case strings.ContainsAny(text, "{}"):
		return segment{}, errors.New("braces stand around a whole segment, as in /users/{id}")
	case strings.Contains(text, "*"):
		return segment{}, errors.New("* stands alone at the end, as in /users/*; for one segment write a name, as in /users/{id}")
	}
	return segment{text: text}, nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' && i > 0) {
			return false
		}
	}
	return s != ""
}

// String is what ParsePath has read, "" for the zero value.
func (p Path) String() string { return p.text }

// bound are the places in a path of what a Path leaves open: one for each segment, and the rest from its slash on.
type bound struct {
	at   [maxSegments]struct{ from, to uint32 }
	rest uint32
}

// match reports whether path, without its query, has the form p, and notes the places of its segments in b, which may be nil.
func (p *Path) match(path string, b *bound) bool {
	if p.text == "" {
		return true
	}
	if path == "" || path[0] != '/' {
		return false
	}
	at := 0 // of the slash before the segment
	for i := range p.segments {
		if at >= len(path) {
			return false
		}
		from := at + 1
		to := len(path)
		if n := strings.IndexByte(path[from:], '/'); n >= 0 {
			to = from + n
		}
		if !p.segments[i].match(path[from:to]) {
			return false
		}
		if b != nil {
			b.at[i].from, b.at[i].to = uint32(from), uint32(to)
		}
		at = to
	}
	if b != nil {
		b.rest = uint32(at)
	}
	return p.rest || at == len(path)
}

func (s *segment) match(text string) bool {
	if s.name != "" {
		return text != ""
	}
	return s.text == text
}

// covers reports whether every path of the form q has the form p too.
func (p Path) covers(q Path) bool {
	if p.text == "" || q.text == "" {
		return p.text == ""
	}
	if len(p.segments) > len(q.segments) || !p.rest && (q.rest || len(p.segments) != len(q.segments)) {
		return false
	}
	for i, s := range p.segments {
		o := q.segments[i]
		if s.name == "" && (o.name != "" || o.text != s.text) || s.name != "" && o.name == "" && o.text == "" {
			return false
		}
	}
	return true
}

// index is the place of a named segment, or -1.
func (p Path) index(name string) int {
	return slices.IndexFunc(p.segments, func(s segment) bool { return s.name == name })
}
