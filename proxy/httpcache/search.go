package httpcache

import (
	"net/url"
	"slices"
	"strings"

	"github.com/pillion-proxy/pillion/proxy/httpcache/sfv"
)

// searchField says which parts of a query an answer does not vary by (draft-ietf-httpbis-no-vary-search).
const searchField = "No-Vary-Search"

// search is how the queries of a path are compared.
type search struct {
	text      string // of the field
	anyOrder  bool
	ignoreAll bool
	ignored   []string // parameters that do not count
	except    []string // with ignoreAll: those that do
}

// parseSearch returns nil for what says nothing, or is not well-formed: then all of a query counts.
func parseSearch(value string) *search {
	members, err := sfv.ParseDictionary(value)
	if err != nil {
		return nil
	}
	s := &search{text: value}
	for i := range members {
		m := &members[i]
		ok := false
		switch m.Key {
		case "key-order":
			s.anyOrder, ok = m.Bool, m.Kind == sfv.Boolean
		case "params":
			s.ignoreAll, ok = m.Bool, m.Kind == sfv.Boolean
			if m.Kind == sfv.InnerList {
				s.ignored, ok = names(m.List)
			}
		case "except":
			s.except, ok = names(m.List)
			ok = ok && m.Kind == sfv.InnerList
		default:
			ok = true
		}
		if !ok {
			return nil
		}
	}
	if len(s.except) > 0 && !s.ignoreAll || !s.anyOrder && !s.ignoreAll && len(s.ignored) == 0 {
		return nil
	}
	return s
}

func names(list []sfv.Item) ([]string, bool) {
	var all []string
	for _, i := range list {
		if i.Kind != sfv.String {
			return nil, false
		}
		all = append(all, unescape(i.Str))
	}
	return all, true
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// key is the text of a key with the query in the form in which it is compared. A nil search leaves it alone.
func (s *search) key(text string) string {
	if s == nil {
		return text
	}
	base, query, _ := strings.Cut(text, "?")
	type pair struct{ name, value string }
	var pairs []pair
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		p := pair{unescape(name), unescape(value)}
		if !s.ignores(p.name) {
			pairs = append(pairs, p)
		}
	}
	if s.anyOrder {
		slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	}
	var b strings.Builder
	b.WriteString(base)
	for i, p := range pairs {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(url.QueryEscape(p.name) + "=" + url.QueryEscape(p.value))
	}
	return b.String()
}

func (s *search) ignores(name string) bool {
	if s.ignoreAll {
		return !slices.Contains(s.except, name)
	}
	return slices.Contains(s.ignored, name)
}

// searchKey is where the search of a path is kept: no request has such a query.
func searchKey(text string) string {
	base, _, _ := strings.Cut(text, "?")
	return base + "? "
}

// learnSearch keeps what an entry says of the queries of its path.
func (c *Cache) learnSearch(e *entry, s *site) {
	c.change(searchKey(e.key), func(r *resource) *resource {
		if r.search == nil {
			s.searches.Add(1)
		}
		return &resource{key: r.key, search: e.search}
	})
}

// lookup finds what is kept for the request. Where its path has a search, the key becomes the one that all of its equals share.
func (x *call) lookup() *resource {
	if x.at.searches.Load() > 0 {
		text := string(x.k.text)
		sk := []byte(searchKey(text))
		if r := x.c.resource(key{x.c.hash(sk), sk}); r != nil && r.search != nil {
			x.k.text = []byte(r.search.key(text))
			x.k.hash = x.c.hash(x.k.text)
		}
	}
	return x.c.resource(x.k)
}

// keysOf are the keys under which a path may be kept: as it is, and as its search has it.
func (c *Cache) keysOf(text string, s *site) []string {
	keys := []string{text}
	if s.searches.Load() == 0 {
		return keys
	}
	sk := []byte(searchKey(text))
	if r := c.resource(key{c.hash(sk), sk}); r != nil && r.search != nil {
		if k := r.search.key(text); k != text {
			keys = append(keys, k)
		}
	}
	return keys
}
