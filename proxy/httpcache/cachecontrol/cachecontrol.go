// Package cachecontrol parses what a message says of caching: Cache-Control (RFC 9111 section 5.2, RFC 5861, RFC 8246), targeted fields (RFC
// 9213) and HTTP dates. It only reads; what follows from it is decided in package rules. Whatever is malformed is understood in
// the way that stores and reuses least.
package cachecontrol

import (
	"math"
	"strings"

	"github.com/pillion-proxy/pillion/proxy/httpcache/sfv"
)

// Seconds is a delta-seconds. Absent is none.
type Seconds int64

const (
	// Absent is the Seconds of a directive that is not there.
	Absent Seconds = -1
	// Most is what larger values become. RFC 9111 section 1.2.2: "the cache MUST consider the value to be 2147483648 (2^31) or the greatest positive
	// integer it can conveniently represent."
	Most Seconds = 1 << 31
)

// Directives are those of one message. Make one with None.
type Directives struct {
	Present bool // there was a field, if an empty one

	NoStore, NoCache, NoTransform                              bool
	Public, Private                                            bool
	MustRevalidate, ProxyRevalidate, MustUnderstand, Immutable bool // of answers
	OnlyIfCached, AnyStale                                     bool // of requests; AnyStale is max-stale without a value

	// Fields that no-cache and private name, if they name any: then NoCache and Private are false.
	NoCacheFields, PrivateFields []string

	MaxAge, SMaxAge                    Seconds
	StaleWhileRevalidate, StaleIfError Seconds
	MaxStale, MinFresh                 Seconds
}

// None returns Directives without any.
func None() Directives {
	return Directives{MaxAge: Absent, SMaxAge: Absent, StaleWhileRevalidate: Absent, StaleIfError: Absent, MaxStale: Absent, MinFresh: Absent}
}

// Add parses one Cache-Control line. A request's usual directives cost no allocation.
func (d *Directives) Add(line string) {
	d.Present = true
	for line != "" {
		var name, value string
		var form form
		name, value, form, line = next(line)
		if name != "" {
			d.set(name, value, form)
		}
	}
}

// form is how a directive's value was written.
type form uint8

const (
	bare form = iota // no value
	token
	quoted
	broken // no value that the grammar knows
)

// next takes one directive off line: cache-directive = token [ "=" ( token / quoted-string ) ].
func next(line string) (name, value string, f form, rest string) {
	line = strings.TrimLeft(line, " \t,")
	n := 0
	for n < len(line) && line[n] != '=' && line[n] != ',' {
		n++
	}
	name = line[:n]
	if n == len(line) || line[n] == ',' {
		return strings.TrimRight(name, " \t"), "", bare, line[n:]
	}
	line = line[n+1:]
	if trimmed := strings.TrimRight(name, " \t"); trimmed != name {
		_, rest = untilComma(line)
		return trimmed, "", broken, rest
	}
	if line == "" || line[0] != '"' {
		value, rest = untilComma(line)
		value = strings.TrimRight(value, " \t")
		if value == "" || strings.ContainsAny(value, " \t\"=") {
			return name, "", broken, rest
		}
		return name, value, token, rest
	}
	value, rest, ok := quotedString(line)
	if !ok {
		return name, "", broken, ""
	}
	after, rest := untilComma(rest)
	if strings.Trim(after, " \t") != "" {
		return name, "", broken, rest
	}
	return name, value, quoted, rest
}

func untilComma(s string) (before, rest string) {
	if i := strings.IndexByte(s, ','); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// quotedString takes one off s, which begins with its quote.
func quotedString(s string) (value, rest string, ok bool) {
	plain := true
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			plain = false
			i++
		case '"':
			value = s[1:i]
			if !plain {
				value = unescape(value)
			}
			return value, s[i+1:], true
		}
	}
	return "", "", false
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// set applies one directive. Names compare without case.
func (d *Directives) set(name, value string, f form) {
	is := func(want string) bool { return len(name) == len(want) && strings.EqualFold(name, want) }
	switch {
	case is("max-age"):
		fresh(&d.MaxAge, value, f)
	case is("s-maxage"):
		fresh(&d.SMaxAge, value, f)
	case is("no-store"):
		d.NoStore = true
	case is("no-cache"):
		named(&d.NoCache, &d.NoCacheFields, value, f)
	case is("private"):
		named(&d.Private, &d.PrivateFields, value, f)
	case is("public"):
		d.Public = true
	case is("must-revalidate"):
		d.MustRevalidate = true
	case is("proxy-revalidate"):
		d.ProxyRevalidate = true
	case is("must-understand"):
		d.MustUnderstand = true
	case is("immutable"):
		d.Immutable = true
	case is("no-transform"):
		d.NoTransform = true
	case is("stale-while-revalidate"):
		grace(&d.StaleWhileRevalidate, value, f)
	case is("stale-if-error"):
		grace(&d.StaleIfError, value, f)
	case is("only-if-cached"):
		d.OnlyIfCached = true
	case is("max-stale"):
		if f == bare {
			d.AnyStale = true
			return
		}
		grace(&d.MaxStale, value, f)
	case is("min-fresh"):
		n, ok := delta(value, f)
		if !ok {
			n = Most
		}
		d.MinFresh = max(d.MinFresh, n)
	}
}

// fresh sets a freshness. RFC 9111 section 4.2.1: "Caches are encouraged to consider responses that have invalid freshness information (e.g., there is either no max-age
// directive value or more than one) to be stale", and "either the first occurrence should be used or the response should be considered stale."
func fresh(to *Seconds, value string, f form) {
	n, ok := delta(value, f)
	switch {
	case !ok, *to != Absent && *to != n:
		*to = 0
	default:
		*to = n
	}
}

// grace sets how long what is stale may be used: nothing, where that is malformed.
func grace(to *Seconds, value string, f form) {
	n, ok := delta(value, f)
	switch {
	case !ok:
		*to = 0
	case *to == Absent, n < *to:
		*to = n
	}
}

// named is a directive that may be limited to the fields that it names. RFC 9111 section 5.2.2.4 wants these quoted: the token form counts as no limit.
func named(all *bool, fields *[]string, value string, f form) {
	before := len(*fields)
	if f == quoted {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.Trim(part, " \t"); part != "" {
				*fields = append(*fields, part)
			}
		}
	}
	if len(*fields) == before {
		*all = true
	}
}

// delta parses 1*DIGIT.
func delta(value string, f form) (Seconds, bool) {
	if f != token && f != quoted || value == "" {
		return 0, false
	}
	n := Seconds(0)
	for i := range len(value) {
		c := value[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+Seconds(c-'0'), Most)
	}
	return n, true
}

// Targeted parses the lines of a field such as CDN-Cache-Control, joined by commas. It returns false if they are empty or no dictionary: then the field does not
// exist. RFC 9213 section 2.2: "If a targeted field [...] is present with a valid, non-empty value, [...] the cache MUST ignore the Cache-Control and Expires header fields".
func Targeted(value string) (Directives, bool) {
	members, err := sfv.ParseDictionary(value)
	d := None()
	if err != nil || len(members) == 0 {
		return d, false
	}
	d.Present = true
	for i := range members {
		m := &members[i]
		switch m.Kind {
		case sfv.Boolean:
			if m.Bool {
				d.set(m.Key, "", bare)
			}
		case sfv.Integer:
			d.set(m.Key, digits(m.Int), token)
		case sfv.String:
			if m.Key == "no-cache" || m.Key == "private" {
				d.set(m.Key, m.Str, quoted)
				continue
			}
			d.set(m.Key, "", broken)
		default:
			d.set(m.Key, "", broken)
		}
	}
	return d, true
}

// digits writes n so that delta reads it; a negative one as nothing.
func digits(n int64) string {
	if n < 0 {
		return ""
	}
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// Number parses an Age: the first member, if it is one. A negative or malformed one is Absent.
func Number(value string) Seconds {
	value, _ = untilComma(value)
	n, ok := delta(strings.Trim(value, " \t"), token)
	if !ok || n > math.MaxInt32 {
		if ok {
			return Most
		}
		return Absent
	}
	return n
}
