package proxy

import (
	"errors"
	"testing"
)

type listening struct{ heard []error }

func (l *listening) Canceled(err error) { l.heard = append(l.heard, err) }

func TestCancel(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, solo := range []bool{false, true} {
		c := &Cancel{solo: solo}
		for range 2 {
			var outer, inner, late listening
			if before, err := c.Watch(&outer); before != nil || err != nil {
				t.Errorf("solo %v: got %v and %v, want nobody before", solo, before, err)
			}
			if before, err := c.Watch(&inner); before != &outer || err != nil {
				t.Errorf("solo %v: got %v and %v, want who was there before", solo, before, err)
			}
			c.Unwatch(&outer) // it is not the one that is registered
			c.Cancel(first)
			c.Cancel(second)
			if len(outer.heard) != 0 || len(inner.heard) != 1 || inner.heard[0] != first || c.Err() != first {
				t.Errorf("solo %v: told %v and %v, and Err is %v, want the first reason once", solo, outer.heard, inner.heard, c.Err())
			}
			if _, err := c.Watch(&late); err != first {
				t.Errorf("solo %v: got %v, want the reason", solo, err)
			}
			if c.Reset(); c.Err() != nil {
				t.Errorf("solo %v: %v after Reset", solo, c.Err())
			}
		}
	}
}

func BenchmarkCancel(b *testing.B) {
	for name, solo := range map[string]bool{"locked": false, "solo": true} {
		b.Run(name, func(b *testing.B) {
			c := Cancel{solo: solo}
			w := new(listening)
			b.ReportAllocs()
			for b.Loop() {
				c.Reset()
				_, _ = c.Watch(w)
				c.Unwatch(w)
			}
		})
	}
}
