package peers

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUsageCountsChildren(t *testing.T) {
	// A shell with a child that computes.
	proc, err := start(filepath.Join(t.TempDir(), "log"), "/bin/sh", "-c", "(while :; do :; done) & wait")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.stop()
	pair := &Pair{procs: []*process{proc}}
	var used Usage
	for range 500 { // until the child has computed for a while
		if used, err = pair.Usage(); err != nil {
			t.Fatal(err)
		}
		if used.CPU > 20*time.Millisecond {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if used.CPU <= 20*time.Millisecond {
		t.Errorf("CPU = %v after five seconds, want the child's", used.CPU)
	}
	if m, err := pair.Memory(); err != nil || m.RSS <= 0 || m.PSS <= 0 {
		t.Errorf("Memory() = %+v, %v, want something resident", m, err)
	}
	proc.stop()
	if _, err := pair.Usage(); err == nil {
		t.Error("Usage of a process that has ended = nil error, want one")
	}
}

func TestStartSaysWhatAProgramThatEndsPrinted(t *testing.T) {
	proc, err := start(filepath.Join(t.TempDir(), "log"), "/bin/sh", "-c", "echo no such option")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.stop()
	<-proc.done
	err = proc.waitListening("127.0.0.1:1")
	if err == nil || !strings.Contains(err.Error(), "no such option") {
		t.Errorf("waitListening = %v, want what the program printed", err)
	}
}
