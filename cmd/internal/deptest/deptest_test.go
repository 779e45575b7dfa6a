package deptest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/pillion-proxy/pillion"
	root   = "../../.."
)

// file is one Go source file, of any build tag.
type file struct {
	name string // slashed, from the root
	ast  *ast.File
}

func (f file) dir() string  { return path.Dir(f.name) }
func (f file) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

func (f file) imports(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// sources parses the head of every Go file of the module.
func sources(t *testing.T) []file {
	t.Helper()
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != root && (base == "testdata" || strings.HasPrefix(base, ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() && name != root && isFile(filepath.Join(name, "go.mod")) {
			return filepath.SkipDir // another module
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		files = append(files, file{filepath.ToSlash(rel), parsed})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d Go files below %s", len(files), root)
	}
	return files
}

func isFile(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// matches reports whether the slashed name fits pattern; see room.
func matches(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == base || strings.HasPrefix(name, base+"/")
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}

// TestRooms: every import inside the module is one that the table allows.
func TestRooms(t *testing.T) {
	for _, f := range sources(t) {
		if f.isTest() {
			continue
		}
		i := slices.IndexFunc(rooms, func(r room) bool { return matches(r.dir, f.dir()) })
		if i < 0 {
			t.Errorf("%s: the table of rooms does not know %s: give it a line, with its reason", f.name, f.dir())
			continue
		}
		for _, p := range f.imports(t) {
			ours, ok := strings.CutPrefix(p, module+"/")
			if ok && !matchesAny(rooms[i].may, ours) {
				t.Errorf("%s imports %s, which %s may not: %s", f.name, ours, rooms[i].dir, rooms[i].why)
			}
		}
	}
}

// TestEntries: what is not ours enters only where the table lets it.
func TestEntries(t *testing.T) {
	for _, f := range sources(t) {
		if f.isTest() {
			continue
		}
		for _, p := range f.imports(t) {
			i := slices.IndexFunc(entries, func(e entry) bool { return matches(e.path, p) })
			switch {
			case i >= 0 && !matchesAny(entries[i].in, f.dir()):
				t.Errorf("%s imports %s: %s", f.name, p, entries[i].why)
			case i < 0 && strings.Contains(strings.Split(p, "/")[0], ".") && !strings.HasPrefix(p, module):
				t.Errorf("%s imports %s, a module that the table of entries does not know: say where it may enter, and why", f.name, p)
			}
		}
	}
}

// TestInit: nothing registers itself.
func TestInit(t *testing.T) {
	for _, f := range sources(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, f.name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init: whoever needs it calls it by name", f.name)
			}
		}
	}
}

// TestPackageComments: every package says once what it is.
func TestPackageComments(t *testing.T) {
	comments := make(map[string][]string) // by folder: the files that have one
	only := make(map[string]bool)         // folders of nothing but tests
	name := make(map[string]string)
	for _, f := range sources(t) {
		if _, seen := only[f.dir()]; !seen {
			only[f.dir()] = true
		}
		only[f.dir()] = only[f.dir()] && f.isTest()
	}
	for _, f := range sources(t) {
		if f.isTest() && !only[f.dir()] {
			continue
		}
		name[f.dir()] = f.ast.Name.Name
		if _, ok := comments[f.dir()]; !ok {
			comments[f.dir()] = nil
		}
		if f.ast.Doc == nil {
			continue
		}
		comments[f.dir()] = append(comments[f.dir()], f.name)
		begins := "Package " + f.ast.Name.Name + " "
		if f.ast.Name.Name == "main" {
			begins = "Command " + path.Base(f.dir()) + " "
		}
		if text := f.ast.Doc.Text(); !strings.HasPrefix(text, begins) {
			t.Errorf("%s: the package comment begins %q, want %q", f.name, strings.SplitN(text, "\n", 2)[0], begins)
		}
	}
	for dir, in := range comments {
		if len(in) != 1 {
			t.Errorf("package %s in %s has %d package comments, want 1: %v", name[dir], dir, len(in), in)
		}
	}
}

// TestTopLevel: what lies at the top is fixed. The program, which README has one build there, is a file that git ignores.
func TestTopLevel(t *testing.T) {
	known := []string{"proxy", "listeners", "upstream", "discovery", "tls", "cmd", "examples", "bench", "go.mod", "go.sum", "README.md", "LICENSE"}
	all, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() == "pillion" && e.Type().IsRegular() {
			continue
		}
		if !slices.Contains(known, e.Name()) && !strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s lies at the top level, where only these and dot-files do: %v", e.Name(), known)
		}
	}
}
