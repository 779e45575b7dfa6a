package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestSocketIsPrivateAtFirst: between bind and chmod nobody can connect, whatever the umask.
func TestSocketIsPrivateAtFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := listenPrivate(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket {
		t.Errorf("mode %v, %v, want a socket without permissions", info.Mode(), err)
	}
}
