package config

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// FuzzLoad: no input makes the reader panic or take long; what it refuses it explains; what it accepts, printed
// and read again, is the same.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		for _, file := range glob(f, pattern) {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Setenv("HOME", "/home/user")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := read("fuzz.yaml", "/nowhere", data, Flags{})
		if err != nil {
			checkProblems(t, err, data)
			return
		}
		if c.Admin.Token != "" || c.Admin.WriteToken != "" || len(c.Tracing.Headers) > 0 {
			return // Print does not show it
		}
		printed := c.Print()
		again, err := read("again.yaml", "/nowhere", []byte(printed), Flags{})
		if err != nil {
			t.Fatalf("the printed form does not load: %v\n%s", err, printed)
		}
		if !equal(c, again) {
			t.Fatalf("the printed form means something else:\ngot  %+v\nwant %+v", again, c)
		}
	})
}

func checkProblems(t *testing.T, err error, data []byte) {
	t.Helper()
	ps, ok := err.(Problems)
	if !ok || len(ps) == 0 {
		t.Fatalf("read = %T %v, want Problems", err, err)
	}
	for _, p := range ps {
		if p.File == "" || p.Text == "" || p.Line < 1 {
			t.Errorf("problem without a place or a text: %+v", p)
		}
		// What fmt writes for a wrong verb, unless it is quoted from the file.
		if strings.Contains(p.Text, "%!") && !bytes.Contains(data, []byte("%!")) {
			t.Errorf("bad format: %s", p.Text)
		}
	}
}
