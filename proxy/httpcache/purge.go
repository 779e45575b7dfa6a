package httpcache

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// Entry describes a stored answer to its operator.
type Entry struct {
	Service  string
	URL      string // authority and path
	Status   int
	Bytes    int64
	Age      float64
	TTL      float64 // negative: stale
	Hits     uint64
	Owner    string // the only identity that gets it
	Vary     map[string]string
	Tags     []string
	ETag     string
	Modified string
	Partial  bool
	NoCache  bool // asked about each time
}

// List returns what is stored, at most most of it, sorted; want chooses, by service and URL (authority and path). It is for operators, on ordinary goroutines.
func (c *Cache) List(most int, want func(service, url string) bool) (all []Entry, more bool) {
	now := c.wallNow()
	c.store.Each(func(_ uint64, r *resource) bool {
		if len(r.entries) == 0 {
			return true
		}
		service, url := splitKey(r.key)
		if !want(service, url) {
			return true
		}
		for _, e := range r.entries {
			all = append(all, e.describe(service, url, now))
		}
		return true
	})
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.URL, b.URL))
	})
	if len(all) > most {
		return all[:most], true
	}
	return all, false
}

// splitKey takes the text of a key apart.
func splitKey(text string) (service, url string) {
	service, url, _ = strings.Cut(text, " ")
	service = strings.Replace(service, string(portMark), ":", 1)
	return service, strings.Replace(url, " ", "", 1)
}

func (e *entry) describe(service, url string, now rules.Time) Entry {
	d := Entry{Service: service, URL: url, Status: e.status, Bytes: e.size(), Age: e.policy.Age(now).Truncate(time.Millisecond).Seconds(), TTL: e.policy.TTL(now).Truncate(time.Millisecond).Seconds(),
		Hits: e.hits.Load(), Owner: string(e.owner), Tags: e.policy.Tags, ETag: e.policy.ETag, Modified: e.policy.LastModified, Partial: e.spans != nil, NoCache: e.policy.NoCache}
	for _, s := range e.selectors {
		if d.Vary == nil {
			d.Vary = make(map[string]string)
		}
		d.Vary[s.Name] = s.Normal
	}
	return d
}

// purge forgets what choose chooses and returns how many answers that were. What is under way is not stored either. It is for operators, on ordinary goroutines.
func (c *Cache) purge(choose func(r *resource) bool) int {
	at := c.wallNow()
	later(&c.purged, at)
	for i := range c.flights {
		c.flights[i].clear()
	}
	n := 0
	c.store.Each(func(_ uint64, r *resource) bool {
		if len(r.entries) > 0 && choose(r) {
			c.invalidate(r.key, at)
			n += len(r.entries)
		}
		return true
	})
	return n
}

// PurgeURL forgets all variants of a URL, authority and path; with a service's name only those of that service.
func (c *Cache) PurgeURL(service, url string) int {
	match := func(text string) bool {
		s, u := splitKey(text)
		return (u == url || strings.HasPrefix(u, url+" ")) && (service == "" || s == service)
	}
	n := c.purge(func(r *resource) bool { return match(r.key) })
	if i := strings.IndexByte(url, '/'); i >= 0 {
		c.tell(noticePath+digestOf(url[i:]).text(), func(app string) bool { return service == "" || service == app })
	}
	return n + c.sweep(func(text string, _ []byte) bool { return match(text) })
}

// PurgeTag forgets all that has a surrogate key.
func (c *Cache) PurgeTag(tag string) int {
	has := func(e *entry) bool { return slices.Contains(e.policy.Tags, tag) }
	n := c.purge(func(r *resource) bool { return slices.ContainsFunc(r.entries, has) })
	c.tell(noticeTag+digestOf(tag).text(), everything)
	return n + c.sweep(func(text string, data []byte) bool { return slices.ContainsFunc(decode(text, data), has) })
}

// sweep forgets what matches on disk and is not in memory any more.
func (c *Cache) sweep(match func(text string, data []byte) bool) int {
	if c.cfg.Disk == nil {
		return 0
	}
	return c.cfg.Disk.Sweep(match)
}

// PurgeAll forgets everything.
func (c *Cache) PurgeAll() int {
	n := c.purge(func(*resource) bool { return true })
	c.tell(noticeAll, everything)
	if c.cfg.Disk != nil {
		c.cfg.Disk.Clear()
	}
	return n
}
