package rules

import (
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// varyNames are the fields that an answer varies by, lower-case, sorted, each once.
func varyNames(fields proxy.Fields) []string {
	var names []string
	for i := range fields {
		if !is(&fields[i], "Vary") {
			continue
		}
		for name := range strings.SplitSeq(fields[i].Value, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Selector is one field of the request that an answer was chosen by.
type Selector struct {
	Name   string // lower-case
	Raw    string // as it came, lines joined
	Normal string // as it is compared
	Absent bool
}

// Selectors are the values that a request has for the names of Vary. They are copies.
func Selectors(names []string, fields proxy.Fields) []Selector {
	all := make([]Selector, len(names))
	for i, name := range names {
		all[i] = Selector{Name: name, Absent: !fields.Has(name)}
		if !all[i].Absent {
			all[i].Raw = strings.Clone(Joined(fields, name))
			all[i].Normal = Normalise(name, all[i].Raw)
		}
	}
	return all
}

// Selects reports whether a request has the same values. RFC 9111 section 4.1: "The header fields from two requests are defined to match if and only if those in the
// first request can be transformed to those in the second request by applying any of the following: adding or removing whitespace [...]; combining multiple header
// field lines with the same field name [...]; normalizing both header field values in a way that is known to have identical semantics". "If (after any normalization
// that might take place) a header field is absent from a request, it can only match another request if it is also absent there."
func Selects(all []Selector, fields proxy.Fields) bool {
	for i := range all {
		s := &all[i]
		at := fields.Index(s.Name)
		if at < 0 != s.Absent {
			return false
		}
		if at < 0 {
			continue
		}
		if fields[at].Value == s.Raw && !fields[at+1:].Has(s.Name) {
			continue
		}
		if Normalise(s.Name, Joined(fields, s.Name)) != s.Normal {
			return false
		}
	}
	return true
}

// Normalise brings a value into the form in which it is compared: without optional whitespace around commas and, in Accept-*, semicolons; Accept-Encoding, whose order says
// nothing, in lower case and sorted; Accept-Language in lower case.
func Normalise(name, value string) string {
	members := split(value)
	switch name {
	case "accept-encoding":
		for i := range members {
			members[i] = strings.ToLower(tight(members[i]))
		}
		slices.Sort(members)
		members = slices.Compact(members)
	case "accept-language":
		for i := range members {
			members[i] = strings.ToLower(tight(members[i]))
		}
	case "accept", "accept-charset":
		for i := range members {
			members[i] = tight(members[i])
		}
	}
	return strings.Join(members, ",")
}

// split cuts at the commas that are in no quotes, and drops what is empty. Where quotes are not closed nobody can tell what is in them: that is one piece.
func split(s string) []string {
	var all []string
	begin, inQuotes := 0, false
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s), s[i] == ',' && !inQuotes:
			if part := strings.Trim(s[begin:i], " \t"); part != "" {
				all = append(all, part)
			}
			begin = i + 1
		case s[i] == '\\' && inQuotes:
			i++
			if i == len(s) {
				i--
			}
		case s[i] == '"':
			inQuotes = !inQuotes
		}
	}
	if inQuotes {
		return append(all[:0], strings.Trim(s, " \t"))
	}
	return all
}

// tight removes the whitespace around semicolons and equal signs that are in no quotes.
func tight(s string) string {
	if strings.IndexByte(s, '"') >= 0 || !strings.ContainsAny(s, " \t") {
		return s
	}
	parts := strings.Split(s, ";")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], " \t")
	}
	return strings.Join(parts, ";")
}
