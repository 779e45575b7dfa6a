package peers

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUsageOfASideThatHasEndedSaysWhatItPrinted(t *testing.T) {
	proc, err := start(filepath.Join(t.TempDir(), "log"), "/bin/sh", "-c", "echo out of memory; exec sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.stop()
	pair := &Pair{procs: []*process{proc}}
	m, err := pair.Memory()
	for range 500 { // the kernel has no figures of a process that is just becoming another program
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
		m, err = pair.Memory()
	}
	if err != nil || m.RSS <= 0 {
		t.Errorf("Memory() = %+v, %v, want something resident", m, err)
	}
	for range 500 { // until it has printed
		if strings.Contains(proc.diagnosis().Error(), "out of memory") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	pair.Stop()
	if _, err := pair.Usage(); err == nil || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("Usage after the end = %v, want an error with what the program printed", err)
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
