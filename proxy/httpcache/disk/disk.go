// Package disk keeps values in files, under a bound in bytes, and finds them again after a restart. A value is one file with a checksum: one that is torn, damaged
// or of another version is none, and is removed. Files are written by the goroutine of Run and read by whoever calls Get, an ordinary goroutine; Put, Has and
// Delete never wait and are for tasks.
package disk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	block    = 4096 // what a file costs is rounded up to it, bytes
	overhead = 512  // of a file, beside its content: directory and index. Bytes
	maxQueue = 4096 // values that wait to be written; more are not
	suffix   = ".entry"
	fresh    = ".new" // of a file that is being written
)

// Config says where and how much.
type Config struct {
	// Dir is a folder for nothing else. It is made if it is not there.
	Dir string
	// Max is the bound in bytes, of files with what they cost beside their content.
	Max int64
	// Logger gets what goes wrong. If nil, nothing is logged.
	Logger *slog.Logger
}

// Disk is safe for concurrent use.
type Disk struct {
	cfg Config

	mu      sync.Mutex                  // never held over a file or a wait
	index   *simplelru.LRU[name, int64] // what there is, and what it costs
	used    int64
	queue   []operation
	pending map[name]int // operations that are queued, or under way
	ready   bool         // the index is whole
	stats   Stats
	reads   map[name]*reading
	kicked  chan struct{} // one slot
}

// name is the hash of a key, which names its file.
type name [16]byte

// operation is a value to be written, or, without encode, to be removed.
type operation struct {
	key    string
	at     name
	encode func() []byte
	clear  bool // remove everything; at is zero
}

// reading is one read of a file, for all who want it.
type reading struct {
	done chan struct{}
	data []byte
	ok   bool
}

// Stats is a snapshot.
type Stats struct {
	Bytes   int64
	Max     int64
	Entries int
	Reads   uint64
	Writes  uint64
	Dropped uint64 // not written, because too many waited
	Damaged uint64 // files that did not hold what was written
}

// Open makes the folder. Nothing is read before Run.
func Open(cfg Config) (*Disk, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the cache: %w", err)
	}
	index, err := simplelru.NewLRU[name, int64](1<<30, nil)
	if err != nil {
		return nil, err
	}
	return &Disk{cfg: cfg, index: index, pending: make(map[name]int), reads: make(map[name]*reading), kicked: make(chan struct{}, 1)}, nil
}

func nameOf(key string) name {
	sum := sha256.Sum256([]byte(key))
	return name(sum[:16])
}

func (d *Disk) path(n name) string {
	h := hex.EncodeToString(n[:])
	return filepath.Join(d.cfg.Dir, h[:2], h[2:]+suffix)
}

// Put has the value of a key written soon: encode is called for it on the goroutine of Run, and returns nil if there is none any more. It never waits.
func (d *Disk) Put(key string, encode func() []byte) {
	d.enqueue(operation{key: key, at: nameOf(key), encode: encode})
}

// Delete forgets a key at once, and removes its file soon. It never waits.
func (d *Disk) Delete(key string) {
	n := nameOf(key)
	d.mu.Lock()
	cost, ok := d.index.Peek(n)
	if ok {
		d.index.Remove(n)
		d.used -= cost
	}
	leaves := ok || !d.ready || d.pending[n] > 0
	d.mu.Unlock()
	if leaves {
		d.enqueue(operation{key: key, at: n})
	}
}

// Clear forgets everything at once, and removes the files soon.
func (d *Disk) Clear() {
	d.mu.Lock()
	d.index.Purge()
	d.used = 0
	d.mu.Unlock()
	d.enqueue(operation{clear: true})
}

func (d *Disk) enqueue(o operation) {
	d.mu.Lock()
	if o.encode != nil && len(d.queue) >= maxQueue { // removals always find room: they are as many as there are files, at most
		d.stats.Dropped++
		d.mu.Unlock()
		return
	}
	d.queue = append(d.queue, o)
	d.pending[o.at]++
	d.mu.Unlock()
	select {
	case d.kicked <- struct{}{}:
	default:
	}
}

// Has reports whether there may be a value. It never waits.
func (d *Disk) Has(key string) bool {
	n := nameOf(key)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.index.Contains(n)
}

// Get reads a value, once for all who want it at a time. It is for an ordinary goroutine.
func (d *Disk) Get(key string) ([]byte, bool) {
	n := nameOf(key)
	d.mu.Lock()
	if _, ok := d.index.Get(n); !ok {
		d.mu.Unlock()
		return nil, false
	}
	r := d.reads[n]
	first := r == nil
	if first {
		r = &reading{done: make(chan struct{})}
		d.reads[n] = r
	}
	d.mu.Unlock()
	if !first {
		<-r.done
		return r.data, r.ok
	}
	r.data, r.ok = d.read(key, n)
	d.mu.Lock()
	delete(d.reads, n)
	d.stats.Reads++
	d.mu.Unlock()
	close(r.done)
	return r.data, r.ok
}

func (d *Disk) read(key string, n name) ([]byte, bool) {
	data, err := os.ReadFile(d.path(n))
	if err == nil {
		if value, ok := open(data, key); ok {
			return value, true
		}
		d.mu.Lock()
		d.stats.Damaged++
		d.mu.Unlock()
		d.cfg.Logger.Warn("a file of the cache is damaged, and is removed", "file", d.path(n))
	}
	d.Delete(key)
	return nil, false
}

// Run finds what is there, and then writes and removes until ctx ends; what is queued by then is still written.
func (d *Disk) Run(ctx context.Context) error {
	if err := d.scan(ctx); err != nil && !errors.Is(err, context.Canceled) {
		d.cfg.Logger.Warn("what the folder of the cache held is not used", "dir", d.cfg.Dir, "error", err)
	}
	for {
		d.work()
		select {
		case <-ctx.Done():
			d.work()
			return nil
		case <-d.kicked:
		}
	}
}

// found is one file of a scan.
type found struct {
	at   name
	cost int64
	when time.Time
}

// scan makes the index, the file that was written last being the one that goes last.
func (d *Disk) scan(ctx context.Context) error {
	var all []found
	err := filepath.WalkDir(d.cfg.Dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case e.IsDir():
			return nil
		case filepath.Ext(path) == fresh:
			return os.Remove(path) // it was being written when the last process ended
		}
		h := filepath.Base(filepath.Dir(path)) + filepath.Base(path)
		raw, bad := hex.DecodeString(h[:max(0, len(h)-len(suffix))])
		info, gone := e.Info()
		if bad != nil || gone != nil || len(raw) != len(name{}) || filepath.Ext(path) != suffix {
			return nil // not ours
		}
		all = append(all, found{name(raw), cost(info.Size()), info.ModTime()})
		return nil
	})
	slices.SortFunc(all, func(a, b found) int { return a.when.Compare(b.when) })
	d.mu.Lock()
	for _, f := range all {
		if d.pending[f.at] == 0 && d.pending[name{}] == 0 && !d.index.Contains(f.at) {
			d.index.Add(f.at, f.cost)
			d.used += f.cost
		}
	}
	d.ready = true
	d.mu.Unlock()
	d.shrink()
	return err
}

func cost(size int64) int64 { return (size+block-1)/block*block + overhead }

// work does what is queued.
func (d *Disk) work() {
	for {
		d.mu.Lock()
		queue := d.queue
		d.queue = nil
		d.mu.Unlock()
		if len(queue) == 0 {
			return
		}
		for _, o := range queue {
			d.perform(o)
			d.mu.Lock()
			if d.pending[o.at]--; d.pending[o.at] == 0 {
				delete(d.pending, o.at)
			}
			d.mu.Unlock()
		}
	}
}

func (d *Disk) perform(o operation) {
	switch {
	case o.clear:
		d.removeAll()
	case o.encode == nil:
		d.drop(o.at)
		d.remove(o.at)
	default:
		value := o.encode()
		if value == nil {
			d.drop(o.at)
			d.remove(o.at)
			return
		}
		if err := d.write(o, value); err != nil {
			d.cfg.Logger.Warn("write to the folder of the cache", "error", err)
			return
		}
		d.shrink()
	}
}

// write makes a file whole before it has its name: a crash leaves the old one, or none.
func (d *Disk) write(o operation, value []byte) error {
	path := d.path(o.at)
	data := seal(value, o.key)
	c := cost(int64(len(data)))
	if c > d.cfg.Max/2 {
		return nil
	}
	err := os.WriteFile(path+fresh, data, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(path+fresh, data, 0o600)
		}
	}
	if err == nil {
		err = os.Rename(path+fresh, path)
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.index.Peek(o.at); ok {
		d.used -= old
	}
	d.index.Add(o.at, c)
	d.used += c
	d.stats.Writes++
	return nil
}

// shrink removes the oldest files until the bound holds.
func (d *Disk) shrink() {
	for {
		d.mu.Lock()
		if d.used <= d.cfg.Max {
			d.mu.Unlock()
			return
		}
		n, c, ok := d.index.RemoveOldest()
		if ok {
			d.used -= c
		}
		d.mu.Unlock()
		if !ok {
			return
		}
		d.remove(n)
	}
}

func (d *Disk) remove(n name) {
	if err := os.Remove(d.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.cfg.Logger.Warn("remove a file of the cache", "error", err)
	}
}

// drop forgets a name that is about to have no file.
func (d *Disk) drop(n name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c, ok := d.index.Peek(n); ok {
		d.index.Remove(n)
		d.used -= c
	}
}

func (d *Disk) removeAll() {
	d.mu.Lock()
	d.index.Purge()
	d.used = 0
	d.mu.Unlock()
	err := filepath.WalkDir(d.cfg.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(path) == suffix {
			return os.Remove(path)
		}
		return err
	})
	if err != nil {
		d.cfg.Logger.Warn("empty the folder of the cache", "error", err)
	}
}

// Sweep forgets the values that match, and returns how many. It reads every file, and is for an ordinary goroutine.
func (d *Disk) Sweep(match func(key string, value []byte) bool) int {
	d.mu.Lock()
	all := d.index.Keys()
	d.mu.Unlock()
	n := 0
	for _, at := range all {
		data, err := os.ReadFile(d.path(at))
		if err != nil {
			continue
		}
		if key, value, ok := parts(data); ok && match(key, value) {
			d.Delete(key)
			n++
		}
	}
	return n
}

// Stats returns what there is.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.stats
	st.Bytes, st.Max, st.Entries = d.used, d.cfg.Max, d.index.Len()
	return st
}
