package disk

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/proxy/proxytest"
)

// run starts a Disk on dir and returns how to stop it.
func run(t *testing.T, dir string, most int64) (*Disk, func()) {
	t.Helper()
	d, err := Open(Config{Dir: dir, Max: most, Logger: proxytest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			wg.Wait()
		}
	}
	t.Cleanup(stop)
	proxytest.Eventually(t, "scanned", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.ready
	})
	return d, stop
}

func put(d *Disk, key, value string) { d.Put(key, func() []byte { return []byte(value) }) }

func files(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	d, stop := run(t, dir, 1<<20)
	for i := range 10 {
		put(d, fmt.Sprint("key ", i), fmt.Sprint("value ", i))
	}
	proxytest.Eventually(t, "written", func() bool { return d.Stats().Writes == 10 })
	d.Delete("key 3")
	if d.Has("key 3") {
		t.Error("a key is there after Delete")
	}
	put(d, "key 4", "another")
	stop()
	os.WriteFile(filepath.Join(dir, "torn.entry"+fresh), []byte("x"), 0o600)

	d, stop = run(t, dir, 1<<20)
	for i := range 10 {
		want := fmt.Sprint("value ", i)
		if i == 4 {
			want = "another"
		}
		got, ok := d.Get(fmt.Sprint("key ", i))
		if ok != (i != 3) || ok && string(got) != want {
			t.Errorf("after a restart, key %d: %q, %v", i, got, ok)
		}
	}
	d.Clear()
	proxytest.Eventually(t, "emptied", func() bool { return len(files(t, dir)) == 0 })
	stop()
	if d, _ = run(t, dir, 1<<20); d.Has("key 1") || d.Stats().Bytes != 0 {
		t.Errorf("after Clear and a restart: %+v", d.Stats())
	}
}

// A file that was torn or changed is a miss, and is removed; so is one that another key wrote.
func TestDamage(t *testing.T) {
	whole := seal([]byte("the value"), "key")
	for i := range whole {
		torn := whole[:i]
		if _, ok := open(torn, "key"); ok {
			t.Errorf("the first %d bytes count as whole", i)
		}
		flipped := bytes.Clone(whole)
		flipped[i] ^= 0x10
		if _, ok := open(flipped, "key"); ok {
			t.Errorf("byte %d can be changed", i)
		}
	}
	if _, ok := open(whole, "another"); ok {
		t.Error("it counts as another key's")
	}
	dir := t.TempDir()
	d, stop := run(t, dir, 1<<20)
	put(d, "key", "the value")
	proxytest.Eventually(t, "written", func() bool { return d.Stats().Writes == 1 })
	stop()
	if err := os.Truncate(files(t, dir)[0], 30); err != nil {
		t.Fatal(err)
	}
	d, _ = run(t, dir, 1<<20)
	if got, ok := d.Get("key"); ok {
		t.Errorf("a torn file gives %q", got)
	}
	proxytest.Eventually(t, "removed", func() bool { return len(files(t, dir)) == 0 })
	if st := d.Stats(); st.Damaged != 1 || st.Entries != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
}

func TestBound(t *testing.T) {
	dir := t.TempDir()
	const most = 20 * (block + overhead)
	d, stop := run(t, dir, most)
	for i := range 100 {
		put(d, fmt.Sprint(i), "x")
	}
	put(d, "large", string(make([]byte, most)))
	proxytest.Eventually(t, "written", func() bool { return d.Stats().Writes == 100 })
	stop()
	if st := d.Stats(); st.Bytes > most || st.Entries != 20 || !d.Has("99") || d.Has("1") || d.Has("large") {
		t.Errorf("%+v", st)
	}
	if n := len(files(t, dir)); n != 20 {
		t.Errorf("%d files", n)
	}
	d, _ = run(t, dir, most/2)
	proxytest.Eventually(t, "a lower bound holds", func() bool { return d.Stats().Entries <= 10 && d.Stats().Bytes <= most/2 })
}

func TestConcurrently(t *testing.T) {
	d, _ := run(t, t.TempDir(), 100*(block+overhead))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprint((g*31 + i) % 40)
				put(d, key, key)
				if got, ok := d.Get(key); ok && string(got) != key {
					t.Errorf("key %s has %q", key, got)
				}
				if i%7 == 0 {
					d.Delete(key)
				}
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for d.Stats().Bytes > 40*(block+overhead) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if st := d.Stats(); st.Damaged != 0 || st.Bytes > 40*(block+overhead) {
		t.Errorf("%+v", st)
	}
}
