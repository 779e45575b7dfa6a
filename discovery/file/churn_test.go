package file

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/discovery/discoverytest"
)

// TestUnderChange: while writers of every kind are at the file, the set is one that was meant, and never none.
func TestUnderChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.yaml")
	r, err := New(Config{Path: path, Defaults: meshed, Poll: 20 * time.Millisecond, Settle: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	f := discoverytest.Follow(t, r)
	write := func(n int) {
		t.Helper()
		text := fmt.Sprintf("- 10.0.0.1\n- 10.0.0.%d\n", n)
		switch rand.N(5) {
		case 0: // replaced
			put(t, path+".new", text)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		case 1: // gone for a moment
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Millisecond)
			put(t, path, text)
		case 2: // in two halves, the first of which is no list
			put(t, path, text[:len(text)-4]+".")
			time.Sleep(30 * time.Millisecond)
			put(t, path, text)
		case 3: // garbage first
			put(t, path, strings.Repeat("\x00\xff{", 100))
			time.Sleep(30 * time.Millisecond)
			put(t, path, text)
		default: // in place
			put(t, path, text)
		}
	}
	for i := range 30 {
		write(2 + i)
		time.Sleep(20 * time.Millisecond)
	}
	f.Await(t, "10.0.0.1:15008", "10.0.0.31:15008")
	if f.Empties() != 0 {
		t.Errorf("the set was empty %d times", f.Empties())
	}
}
