package file

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

var meshed = discovery.Defaults{Port: 15008, Identity: "spiffe://example.org/orders", Mesh: true}

func TestParse(t *testing.T) {
	set, err := parse("f", []byte(`
# where orders runs
- 10.0.0.7
- 10.0.0.8:9000
- "[2001:db8::1]"
- 2001:db8::2
- "[2001:db8::3]:9000"
- address: 10.0.0.9
  identity: spiffe://example.org/other
  weight: 2
  zone: a
  labels: {version: v2, stage: canary}
- {address: 10.0.0.9:81, transport: quic}
- {address: 10.0.0.10:80, mesh: false, transport: quic}
- {address: "unix:/run/orders.sock", mesh: false}
`), meshed)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range set {
		e := &set[i]
		got = append(got, fmt.Sprintf("%v %s %v %d %q%s%s", e, e.Identity, e.Mesh, e.Weight, e.Zone, e.Labels, e.Transport))
	}
	want := []string{
		`10.0.0.7:15008 spiffe://example.org/orders true 0 ""`,
		`10.0.0.8:9000 spiffe://example.org/orders true 0 ""`,
		`[2001:db8::1]:15008 spiffe://example.org/orders true 0 ""`,
		`[2001:db8::2]:15008 spiffe://example.org/orders true 0 ""`,
		`[2001:db8::3]:9000 spiffe://example.org/orders true 0 ""`,
		`10.0.0.9:15008 spiffe://example.org/other true 2 "a"stage=canary,version=v2`,
		`10.0.0.9:81 spiffe://example.org/orders true 0 ""quic`,
		`10.0.0.10:80  false 0 ""`,
		`unix:/run/orders.sock  false 0 ""`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParseJSON(t *testing.T) {
	set, err := parse("f", []byte(`["10.0.0.7", {"address": "10.0.0.8:80", "weight": 3, "mesh": true}]`), meshed)
	if err != nil || len(set) != 2 || set[1].Weight != 3 || set[1].Addr.Port() != 80 {
		t.Errorf("parse JSON = %v, %v", set, err)
	}
	for _, none := range []string{"[]", "--- []\n", "# nothing\n[]\n"} {
		if set, err := parse("f", []byte(none), meshed); err != nil || len(set) != 0 {
			t.Errorf("parse %q = %v, %v; want no endpoints", none, set, err)
		}
	}
}

func TestParseMistakes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "f:1:1: the file is empty"},
		{" \n\t", "f:1:1: the file is empty"},
		{"# only words\n", "f:1:1: the file holds only comments"},
		{"orders: 10.0.0.7", "f:1:1: a list of addresses was expected"},
		{"- orders.internal\n", `f:1:3: "orders.internal" is no address`},
		{"- 10.0.0.7\n-\n", `f:2:2: "" is no address`},
		{"- 10.0.0.7\n- 10.0.0.7:15008\n", "f:2:3: 10.0.0.7:15008 stands in line 1 already"},
		{"- [10.0.0.7]\n", "f:1:3: an address or an object was expected"},
		{"- {address: 10.0.0.7, wieght: 2}\n", `f:1:23: unknown key "wieght"`},
		{"- {weight: 2}\n", "f:1:3: the address is missing"},
		{"- {address: 10.0.0.7, weight: -2}\n", `f:1:31: weight: "-2" is not a whole number`},
		{"- {address: 10.0.0.7, mesh: maybe}\n", `f:1:29: mesh: "maybe" is neither`},
		{"- {address: 10.0.0.7, identity: orders}\n", `f:1:33: identity: "orders" is not a SPIFFE ID`},
		{"- {address: 10.0.0.7, zone: [a]}\n", "f:1:29: zone: one value was expected"},
		{"- {address: 10.0.0.7, address: 10.0.0.8}\n", "f:1:23: address stands here twice"},
		{"- address: 10.0.0.7\n  weight: 1\n   zone: a\n", "f:3:1: "},
		{"- unix:/run/orders.sock\n", "f:1:3: endpoint unix:/run/orders.sock: a Unix socket cannot be a sidecar's"},
		{"- {address: 10.0.0.7, transport: sctp}\n", "f:1:34: transport: \"sctp\" is neither"},
		{"- {address: 10.0.0.7, labels: v2}\n", "f:1:31: labels: names and values were expected"},
		{"- {address: 10.0.0.7, labels: {a: [b]}}\n", "f:1:35: labels: one value was expected"},
		{"- {address: 10.0.0.7, labels: {a: 'b,c'}}\n", "f:1:32: labels: a name has no comma"},
		{"- {address: 10.0.0.7, labels: {a: b, a: c}}\n", "f:1:38: labels: a stands here twice"},
		{"- &a 10.0.0.7\n- *a\n", "f:2:3: aliases are not understood"},
		{"- 10.0.0.7\n---\n- 10.0.0.8\n", "a second document begins here"},
	} {
		set, err := parse("f", []byte(c.text), meshed)
		if err == nil || !strings.Contains(err.Error(), c.want) || set != nil {
			t.Errorf("parse %q = %v, %v; want %q", c.text, set, err, c.want)
		}
	}
	_, err := parse("f", []byte("- a\n- b\n- 10.0.0.7\n- c\n"), meshed)
	if err == nil || strings.Count(err.Error(), "\n") != 2 || !strings.Contains(err.Error(), "f:4:3: ") {
		t.Errorf("three mistakes = %v; want all three", err)
	}
	_, err = parse("f", []byte(strings.Repeat("- a\n", 1000)), meshed)
	if err == nil || !strings.HasSuffix(err.Error(), "and 990 more mistakes") {
		t.Errorf("a thousand mistakes: the message ends in %q", err.Error()[len(err.Error())-40:])
	}
	_, err = parse("f", []byte("- 10.0.0.7\n"), discovery.Defaults{Port: 80, Mesh: true})
	if err == nil || !strings.Contains(err.Error(), "it has no identity") {
		t.Errorf("an item without identity = %v", err)
	}
}

// follower runs Watch in a bubble and keeps what it says.
type follower struct {
	mu   sync.Mutex
	sets []string
	err  error
}

func (f *follower) last() (int, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sets) == 0 {
		return 0, "", f.err
	}
	return len(f.sets), f.sets[len(f.sets)-1], f.err
}

func follow(t *testing.T, path string) (*follower, func()) {
	t.Helper()
	r, err := New(Config{Path: path, Defaults: meshed})
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{}
	ctx, cancel := context.WithCancel(discovery.WithReport(t.Context(), func(err error) {
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
	}))
	done := make(chan error, 1)
	go func() {
		done <- r.Watch(ctx, proxy.Service{Name: "orders"}, func(set []proxy.Endpoint) {
			var all []string
			for i := range set {
				all = append(all, set[i].String())
			}
			f.mu.Lock()
			f.sets = append(f.sets, strings.Join(all, " "))
			f.mu.Unlock()
		})
	}()
	return f, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch = %v, want the context's error", err)
		}
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "endpoints.yaml")
		f, stop := follow(t, path)
		defer stop()
		expect := func(step string, wantN int, want, wantErr string) {
			t.Helper()
			time.Sleep(3 * time.Second)
			n, got, err := f.last()
			if n != wantN || got != want || (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
				t.Errorf("%s: %d updates, the last %q, error %v; want %d, %q, %q", step, n, got, err, wantN, want, wantErr)
			}
		}
		expect("no file", 0, "", "no such file")
		put(t, path, "- 10.0.0.7\n")
		expect("a file", 1, "10.0.0.7:15008", "")
		put(t, path, "- 10.0.0.8\n") // the same size
		expect("another content", 2, "10.0.0.8:15008", "")
		put(t, path, "- 10.0.0.8:15008 # the same\n")
		expect("the same set", 2, "10.0.0.8:15008", "")
		put(t, path, "- 10.0.0.8\n- nonsense\n")
		expect("a mistake", 2, "10.0.0.8:15008", "endpoints.yaml:2:3: ")
		put(t, path, "")
		expect("an empty file", 2, "10.0.0.8:15008", "the file is empty")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("the file is gone", 2, "10.0.0.8:15008", "no such file")
		put(t, path+".new", "[10.0.0.8, 10.0.0.9]")
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		expect("replaced", 3, "10.0.0.8:15008 10.0.0.9:15008", "")
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		expect("moved away", 3, "10.0.0.8:15008 10.0.0.9:15008", "no such file")
		if err := os.Rename(path+".old", path); err != nil {
			t.Fatal(err)
		}
		expect("moved back", 3, "10.0.0.8:15008 10.0.0.9:15008", "")
		put(t, path, "[]")
		expect("none", 4, "", "")
	})
}

// While a writer is at it, half a list is not taken for the whole.
func TestHalfAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "endpoints.yaml")
		var w watch
		put(t, path, "- 10.0.0.7\n")
		for i, c := range []struct {
			add  string
			want bool
		}{{"", false}, {"- 10.0.0.8\n", false}, {"- 10.0.0.9\n", false}, {"", true}, {"", false}} {
			if c.add != "" {
				old, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				put(t, path, string(old)+c.add)
			}
			if changed, err := w.look(path); changed != c.want || err != nil {
				t.Errorf("look %d = %v, %v; want %v", i, changed, err, c.want)
			}
		}
	})
}

func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	put(t, path, strings.Repeat("#", maxFile+1))
	if _, err := read(path); err == nil || !strings.Contains(err.Error(), "larger than 8 MiB") {
		t.Errorf("read of a huge file = %v", err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzParse checks that no content harms the process, and that what is accepted can be used.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := parse("f", data, meshed)
		if err != nil && set != nil {
			t.Errorf("both a set and %v", err)
		}
		seen := make(map[string]bool)
		for i := range set {
			if err := discovery.Check(&set[i]); err != nil {
				t.Errorf("accepted %+v: %v", set[i], err)
			}
			if seen[set[i].String()] {
				t.Errorf("%v twice", &set[i])
			}
			seen[set[i].String()] = true
		}
	})
}
