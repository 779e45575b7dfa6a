package httpcache

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"unicode/utf8"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/rules"
)

// saved is an entry as it is written to disk, but for its content, which follows the heads of all entries.
type saved struct {
	Status    int
	Reason    string
	Version   proxy.Version
	Fields    proxy.Fields
	Trailers  proxy.Fields
	Policy    rules.Policy
	Selectors []rules.Selector
	Owner     proxy.Identity
	Keyed     string
	Search    string
	Sent      rules.Time
	Told      bool
	Length    int64
}

// encode makes a file's content of what is kept under a key: nil if nothing is that can be written.
func (c *Cache) encode(text string) []byte {
	k := []byte(text)
	r := c.peek(key{c.hash(k), k})
	if r == nil {
		return nil
	}
	var heads []saved
	var contents []*content
	for _, e := range r.entries {
		if e.content == nil || !e.content.complete.Load() || !plain(e) {
			continue
		}
		s := saved{Status: e.status, Reason: e.reason, Version: e.version, Fields: e.fields, Trailers: e.content.trailers, Policy: e.policy, Selectors: e.selectors,
			Owner: e.owner, Keyed: e.keyed, Sent: e.sent, Told: e.told, Length: e.length}
		if e.search != nil {
			s.Search = e.search.text
		}
		heads, contents = append(heads, s), append(contents, e.content)
	}
	if len(heads) == 0 {
		return nil
	}
	head, err := json.Marshal(heads)
	if err != nil {
		return nil
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(head)))
	b = append(b, head...)
	for _, one := range contents {
		for _, chunk := range one.chunks {
			b = append(b, chunk...)
		}
	}
	return b
}

// plain reports whether JSON keeps the strings of e as they are.
func plain(e *entry) bool {
	for _, f := range e.fields {
		if !utf8.ValidString(f.Value) {
			return false
		}
	}
	for _, f := range e.content.trailers {
		if !utf8.ValidString(f.Value) {
			return false
		}
	}
	for _, s := range e.selectors {
		if !utf8.ValidString(s.Raw) {
			return false
		}
	}
	return utf8.ValidString(e.keyed) && utf8.ValidString(e.reason)
}

// decode takes apart what encode made. It checks everything: the file may be another version's.
func decode(text string, b []byte) []*entry {
	if len(b) < 4 || int64(binary.LittleEndian.Uint32(b)) > int64(len(b)-4) {
		return nil
	}
	n := binary.LittleEndian.Uint32(b)
	var heads []saved
	d := json.NewDecoder(bytes.NewReader(b[4 : 4+n]))
	d.DisallowUnknownFields()
	if d.Decode(&heads) != nil {
		return nil
	}
	rest := b[4+n:]
	var all []*entry
	for _, s := range heads {
		if s.Length < 0 || s.Length > int64(len(rest)) || s.Status < 200 || s.Status > 599 {
			return nil
		}
		body := &content{n: s.Length, done: true, trailers: s.Trailers}
		if s.Length > 0 {
			body.chunks = [][]byte{bytes.Clone(rest[:s.Length])} // not a part of the file's bytes, which would be kept whole
		}
		body.complete.Store(true)
		rest = rest[s.Length:]
		e := &entry{key: text, path: pathOf(text), status: s.Status, reason: s.Reason, version: s.Version, fields: s.Fields, policy: s.Policy, selectors: s.Selectors,
			owner: s.Owner, keyed: s.Keyed, sent: s.Sent, told: s.Told, length: s.Length, content: body}
		if s.Told { // what has been told while nobody listened is not known
			e.policy.NoCache = true
		}
		if s.Search != "" {
			e.search = parseSearch(s.Search)
		}
		all = append(all, e)
	}
	return all
}

// peek finds what is kept under a key without counting as a use of it.
func (c *Cache) peek(k key) *resource {
	r, ok := c.store.Peek(k.hash)
	if !ok || r.key != string(k.text) {
		return nil
	}
	return r
}

// fetch brings what is on disk under the request's key back into memory. It reports whether there is something new.
func (x *call) fetch(r *resource) bool {
	d := x.c.cfg.Disk
	if d == nil || x.fetched || r != nil && len(r.entries) > 0 {
		return false
	}
	x.fetched = true
	text := string(x.k.text)
	if !d.Has(text) {
		return false
	}
	var all []*entry
	x.req.Shard.Offload(func() {
		if data, ok := d.Get(text); ok {
			all = decode(text, data)
		}
	})
	found := false
	for i := len(all) - 1; i >= 0; i-- {
		found = x.c.restore(all[i], x.at) || found
	}
	if found {
		x.req.Note("cache", "read from disk", 0)
	}
	return found
}

// restore is put for an entry that is on disk already, and that may have been replaced meanwhile.
func (c *Cache) restore(e *entry, s *site) bool {
	if e.sent < rules.Time(c.purged.Load()) {
		return false
	}
	restored := false
	c.change(e.key, func(r *resource) *resource {
		if r.invalidated != 0 && e.sent <= r.invalidated {
			return r
		}
		kept := r.without(e)
		if len(kept) < len(r.entries) {
			return r // there is a newer one
		}
		restored = true
		return &resource{key: r.key, entries: append([]*entry{e}, kept...), invalidated: r.invalidated, search: r.search}
	})
	if restored && e.search != nil {
		c.learnSearch(e, s)
	}
	return restored
}

// save has what is kept under a key written to disk.
func (c *Cache) save(text string) {
	if d := c.cfg.Disk; d != nil {
		d.Put(text, func() []byte { return c.encode(text) })
	}
}

// unsave removes it.
func (c *Cache) unsave(text string) {
	if d := c.cfg.Disk; d != nil {
		d.Delete(text)
	}
}
