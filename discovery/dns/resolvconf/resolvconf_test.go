package resolvconf

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	rc := Parse(`
# a comment
; another
nameserver 10.0.0.53
nameserver 2001:db8::53 ; trailing
nameserver nonsense
nameserver fe80::1%eth0
nameserver 10.0.0.54
domain first.example
search a.example b.example. bad..domain
options ndots:5 timeout:100 attempts:0 rotate unknown:1 ndots:x
nonsense
`)
	if got, want := fmt.Sprint(rc.Servers), "[10.0.0.53:53 [2001:db8::53]:53 [fe80::1%eth0]:53]"; got != want {
		t.Errorf("servers %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(rc.Search), "[a.example. b.example.]"; got != want {
		t.Errorf("search %s, want %s", got, want)
	}
	if rc.Ndots != 5 || rc.Timeout != 30*time.Second || rc.Attempts != 1 || !rc.Rotate || rc.TCP {
		t.Errorf("options %+v", rc)
	}
	rc = Read(filepath.Join(t.TempDir(), "missing"))
	if fmt.Sprint(rc.Servers) != "[127.0.0.1:53]" || rc.Ndots != 1 || rc.Timeout != 5*time.Second || rc.Attempts != 2 || rc.Search != nil {
		t.Errorf("without a file: %+v", rc)
	}
}

func TestOrderRotates(t *testing.T) {
	rc := Parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\noptions rotate\n")
	first := map[string]bool{}
	for range 100 {
		o := rc.Order()
		if len(o) != 2 || o[0] == o[1] {
			t.Fatalf("order = %v; want both servers", o)
		}
		first[o[0].String()] = true
	}
	if len(first) != 2 {
		t.Errorf("only %v came first in a hundred rotations", first)
	}
}
