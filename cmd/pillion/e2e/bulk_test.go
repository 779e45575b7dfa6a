//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// pattern is an endless content that is the same each time: a random block, again and again.
type pattern struct{ at int64 }

// patternBlock is what pattern repeats. Its length has no small factors in common with any buffer's.
var patternBlock = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20+7)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
})

// Read never ends.
func (r *pattern) Read(p []byte) (int, error) {
	block := patternBlock()
	n := copy(p, block[r.at%int64(len(block)):])
	r.at += int64(n)
	return n, nil
}

// content is the first n bytes of pattern.
func content(n int64) io.Reader { return io.LimitReader(&pattern{}, n) }

// checkContent reads all of r, which must be the first n bytes of pattern.
func checkContent(r io.Reader, n int64) error {
	var got, want hash32
	m, err := io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, 256<<10))
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", m, n, err)
	}
	if m != n {
		return fmt.Errorf("got %d bytes, want %d", m, n)
	}
	_, _ = io.CopyBuffer(struct{ io.Writer }{&want}, content(n), make([]byte, 256<<10))
	if got != want {
		return fmt.Errorf("%d bytes arrived, but not those that were sent", n)
	}
	return nil
}

// hash32 is a running CRC.
type hash32 struct{ sum uint32 }

// Write adds p.
func (h *hash32) Write(p []byte) (int, error) {
	h.sum = crc32.Update(h.sum, crc32.MakeTable(crc32.Castagnoli), p)
	return len(p), nil
}

// memoryWatch follows the memory of the sidecars.
type memoryWatch struct {
	pair  *pair
	start []int64
	peak  []int64
	stop  chan struct{}
	done  chan struct{}
}

// watchMemory starts now.
func (p *pair) watchMemory() *memoryWatch {
	w := &memoryWatch{pair: p, stop: make(chan struct{}), done: make(chan struct{})}
	for _, s := range p.both() {
		w.start = append(w.start, s.rss())
	}
	w.peak = append(w.peak, w.start...)
	go w.run()
	return w
}

// run samples until the end.
func (w *memoryWatch) run() {
	defer close(w.done)
	for {
		for i, s := range w.pair.both() {
			w.peak[i] = max(w.peak[i], s.rss())
		}
		select {
		case <-w.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end stops watching and fails the test if either sidecar grew by more than limit.
func (w *memoryWatch) end(t *testing.T, limit int64) {
	t.Helper()
	close(w.stop)
	<-w.done
	for i, s := range w.pair.both() {
		t.Logf("memory of %s: %d MiB before, %d MiB at the most", s.name, w.start[i]>>20, w.peak[i]>>20)
		if grown := w.peak[i] - w.start[i]; grown > limit && !*raceBuilt {
			t.Errorf("%s grew by %d MiB, want at most %d", s.name, grown>>20, limit>>20)
		}
	}
}

// equalBytes fails the test unless got is want.
func equalBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s = %q, want %q", what, shorten(got), shorten(want))
	}
}

// shorten keeps failure messages readable.
func shorten(b []byte) []byte {
	if len(b) > 600 {
		return append(append(append([]byte(nil), b[:300]...), " ... "...), b[len(b)-300:]...)
	}
	return b
}
