package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakePillion returns an executable whose apps wait and whose sidecars do what sidecar, a line of shell, says.
func fakePillion(t *testing.T, sidecar string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pillion")
	script := "#!/bin/sh\ncase $1 in\ndemo-app) trap 'exit 0' TERM; while :; do sleep 0.02; done ;;\nrun) " + sidecar + " ;;\nesac\n"
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestBusyPort: when another program takes a port meanwhile, the demo tries others, and gives up in the end.
func TestBusyPort(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	err := Run(ctx, Config{Out: &out, Executable: fakePillion(t, `echo "peer.listen: bind: address already in use" >&2; exit 1`)})
	if err == nil || !strings.Contains(err.Error(), "peer.listen: bind: address already in use") {
		t.Errorf("got %v, want what the sidecar said", err)
	}
	if got, want := strings.Count(out.String(), "once more"), attempts-1; got != want {
		t.Errorf("tried again %d times, want %d:\n%s", got, want, out.String())
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSidecarFails: a sidecar that does not start is named, with what it said, at once.
func TestSidecarFails(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := Run(ctx, Config{Executable: fakePillion(t, `echo "no such luck" >&2; exit 3`)})
	for _, want := range []string{"sidecar ended by itself: exit status 3", "no such luck"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestInterruptedEarly: Ctrl-C before everything is ready is no failure.
func TestInterruptedEarly(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := Run(ctx, Config{Executable: fakePillion(t, `trap 'exit 0' TERM; while :; do sleep 0.02; done`)}); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
