//go:build e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// direct runs clients straight against apps, to prove the checks themselves.
var direct = flag.Bool("direct", false, "run without sidecars")

// raceBuilt makes every sidecar look for data races; memory is then not judged.
var raceBuilt = flag.Bool("race-built", false, "build the sidecars with the race detector")

// workshop holds what all tests share: the binary and tools, built once.
var workshop = &bench{tools: map[string]func() error{}}

// bench is a folder of built programs.
type bench struct {
	dir string

	mu    sync.Mutex
	tools map[string]func() error // by module path; each builds once
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run builds pillion and runs the tests.
func run(m *testing.M) int {
	if err := raiseFiles(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	dir, err := os.MkdirTemp("", "pillion-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Other users, such as postgres, start programs below it.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	workshop.dir = dir
	if !*direct {
		args := []string{"build", "-o", workshop.pillion(), "github.com/pillion-proxy/pillion/cmd/pillion"}
		if *raceBuilt {
			args = slices.Insert(args, 1, "-race")
		}
		out, err := exec.Command("go", args...).CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "e2e: go build: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// raiseFiles lets this process and its children open as many files as the test with 10,000 connections needs.
func raiseFiles() error {
	const need = 16384
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur, limit.Max = max(limit.Max, need), max(limit.Max, need)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("allow %d open files (run as root): %w", need, err)
	}
	return nil
}

// pillion is the path of the binary.
func (b *bench) pillion() string { return filepath.Join(b.dir, "pillion") }

// tool builds a program of a published module, once, and returns its path.
func (b *bench) tool(t *testing.T, name, pkg string) string {
	t.Helper()
	dir := filepath.Join(b.dir, name)
	b.mu.Lock()
	build := b.tools[name]
	if build == nil {
		build = sync.OnceValue(func() error {
			cmd := exec.Command("go", "install", pkg)
			cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=")
			cmd.Dir = b.dir // outside any module: the version is the one in pkg
			out, err := cmd.CombinedOutput()
			if err != nil {
				return fmt.Errorf("go install %s: %w\n%s", pkg, err, out)
			}
			return nil
		})
		b.tools[name] = build
	}
	b.mu.Unlock()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("go install %s left %v in %s, %v", pkg, files, dir, err)
	}
	return filepath.Join(dir, files[0].Name())
}

// installed returns the path of a program that a Debian package brings.
func installed(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: apt-get install %s", err, pkg)
	}
	return path
}
