package httpcache

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/httpcache/disk"
	"github.com/pillion-proxy/pillion/proxy/proxytest"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// openDisk runs a disk tier until stop.
func openDisk(t *testing.T, dir string) (d *disk.Disk, stop func()) {
	t.Helper()
	d, err := disk.Open(disk.Config{Dir: dir, Max: 16 << 20, Logger: proxytest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	return d, func() { cancel(); wg.Wait() }
}

// What was stored is there after a restart, and what was invalidated is not.
func TestDiskSurvivesARestart(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		dir := t.TempDir()
		s := rt.Shards()[0]
		large := strings.Repeat("x", 200<<10)
		answer := func(o *origin, req *proxy.Request, resp *proxy.Response) error {
			say(resp, 200, req.Path+req.Fields.Get("V")+large, minute, "Vary: V", `ETag: "a"`, "X: \"q\"")
			return nil
		}
		d, stop := openDisk(t, dir)
		first := newBed(t, s, Config{Disk: d}, Settings{Always: true}, answer)
		proxytest.Do(t, s, func() {
			for _, path := range []string{"/a", "/b", "/c"} {
				first.do("GET", path, "V: 1")
				first.do("GET", path, "V: 2")
			}
			first.do("PUT", "/b")
		})
		stop()
		d, stop = openDisk(t, dir)
		proxytest.Eventually(t, "found again", func() bool { return d.Stats().Entries == 2 })
		second := newBed(t, s, Config{Disk: d}, Settings{Always: true}, answer)
		proxytest.Do(t, s, func() {
			second.want("a", second.do("GET", "/a", "V: 1"), 200, "/a1"+large, 0)
			g := second.do("GET", "/c", "V: 2")
			second.want("c", g, 200, "/c2"+large, 0)
			if g.fields.Get("X") != `"q"` || !strings.HasPrefix(g.cache(), "pillion; hit") || g.fields.Get("Age") == "" {
				t.Errorf("%v", g.fields)
			}
			second.want("b", second.do("GET", "/b", "V: 1"), 200, "/b1"+large, 1)
			if n := second.c.PurgeURL("", "shop/c") + second.c.PurgeTag("t"); n == 0 {
				t.Error("nothing was purged")
			}
			second.want("purged by URL", second.do("GET", "/c", "V: 2"), 200, "/c2"+large, 2)
			second.c.PurgeAll()
			second.want("purged", second.do("GET", "/a", "V: 1"), 200, "/a1"+large, 3)
		})
		stop()
	})
}

// Memory lets go of what disk still has.
func TestDiskBehindMemory(t *testing.T) {
	proxytest.Runtimes(t, func(t *testing.T, rt task.Runtime) {
		s := rt.Shards()[0]
		d, stop := openDisk(t, t.TempDir())
		large := strings.Repeat("x", 20<<10)
		b := newBed(t, s, Config{Disk: d, Size: 256 << 10, MaxObject: 64 << 10}, Settings{Always: true}, fixed(200, large, minute))
		for i := range 100 { // one at a time: what memory lets go of before it is written is not
			proxytest.Do(t, s, func() { b.do("GET", "/"+number(i)) })
			k := []byte("shop shop /" + number(i))
			proxytest.Eventually(t, "written, or let go of", func() bool { return d.Has(string(k)) || b.c.peek(key{b.c.hash(k), k}) == nil })
		}
		asked, kept := b.o.count(), 0
		for i := range 100 {
			if d.Has("shop shop /" + number(i)) {
				kept++
			}
		}
		proxytest.Do(t, s, func() {
			for i := range 100 {
				if g := b.do("GET", "/"+number(i)); g.body != large {
					t.Errorf("%d: %d bytes, %v", i, len(g.body), g.err)
				}
			}
		})
		if more := b.o.count() - asked; kept == 0 || more > 100-kept {
			t.Errorf("%d answers are on disk, and the origin was asked %d times more for 100", kept, more)
		}
		if st := b.c.Stats(); st.Bytes > st.Max || st.Disk == nil {
			t.Errorf("%+v", st)
		}
		stop()
	})
}

// FuzzDecode reads what a file may hold.
func FuzzDecode(f *testing.F) {
	c := New(Config{})
	s := c.site("shop")
	e := &entry{key: "shop shop /a", status: 200, fields: proxy.Fields{{Name: "A", Value: "b"}}, content: &content{chunks: [][]byte{[]byte("body")}, n: 4, done: true}, length: 4, sent: 1}
	e.content.complete.Store(true)
	c.put(e, s)
	f.Add(c.encode(e.key))
	f.Add([]byte("\x02\x00\x00\x00[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range decode("shop shop /a", b) {
			if e.length != e.content.n || slices.ContainsFunc(e.content.chunks, func(p []byte) bool { return int64(len(p)) != e.length }) {
				t.Errorf("%+v", e)
			}
		}
	})
}
