package main

import (
	"os"
	"testing"
)

// TestCodeIsDropped: the test's own program, which runs on.
func TestCodeIsDropped(t *testing.T) {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer smaps.Close()
	mem, err := os.Open("/proc/self/mem") // reading there brings pages in
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	size := uint64(0)
	for _, m := range codeIn(smaps, exe) {
		buf := make([]byte, m.to-m.from)
		if _, err := mem.ReadAt(buf, int64(m.from)); err != nil {
			t.Fatalf("read %x: %v", m.from, err)
		}
		size += uint64(len(buf))
	}
	if size < 8<<20 {
		t.Fatalf("found %d bytes of this program, want most of it", size)
	}
	before := lookAtPages()
	dropPages()
	after := lookAtPages()
	if before.resident < size || after.resident > before.resident-size/4 {
		t.Errorf("%d bytes of files resident, %d after the drop, want at least a quarter of %d fewer", before.resident, after.resident, size)
	}
	if after.cpu <= 0 {
		t.Errorf("cpu %v, want what was used", after.cpu)
	}
}
