package task_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// taskRooms are the folders, with what is below them, whose code runs in tasks. Those that do not exist yet are no error.
var taskRooms = []string{
	"proxy/answer", "proxy/bridge", "proxy/datagram", "proxy/detect", "proxy/dnscache", "proxy/hops", "proxy/http1", "proxy/http2", "proxy/httpcache", "proxy/inbound",
	"proxy/limit", "proxy/mirror", "proxy/outbound", "proxy/relay", "proxy/retry", "proxy/split", "proxy/once", "proxy/hedge", "proxy/fault", "proxy/deadline", "proxy/trace", "proxy/authz", "listeners", "upstream",
}

// offTheLoops marks code that runs elsewhere, in the doc comment of its function or type.
const offTheLoops = "ordinary goroutine"

// mayBlock returns, by folder, or file and declaration, what else may block, each with the reason.
func mayBlock() map[string]string {
	return map[string]string{
		"listeners/admin/":                        "net/http serves the operator on goroutines of its own",
		"listeners/dns/":                          "answers on ordinary goroutines, few and never on a request's path",
		"proxy/httpcache/store/store.go:stripe":   "held for a lookup, never over a wait",
		"proxy/httpcache/disk/":                   "files are for its own goroutine and for Offload; what tasks call takes a mutex that is never held over a file",
		"proxy/httpcache/flight.go:flight":        "held for a look at its state, never over a wait",
		"proxy/httpcache/flight.go:flightSet":     "as flight",
		"proxy/httpcache/content.go:content":      "as flight",
		"proxy/httpcache/cache.go:Cache":          "its mutex is for the making of layers and for operators",
		"proxy/httpcache/cache.go:site":           "as flight",
		"proxy/httpcache/places.go:places":        "as flight",
		"proxy/httpcache/news.go:board":           "as flight",
		"proxy/dnscache/dnscache.go:Cache":        "as flight",
		"proxy/bridge/exchange.go:exchange":       "both shards hold its mutex, never over a wait or a call",
		"proxy/bridge/flow.go:queue":              "as exchange",
		"proxy/bridge/pipe.go:pipe":               "as exchange",
		"upstream/quiclink/":                      "QUIC lives on ordinary goroutines; what tasks of a loop call is in link.go, and does not block",
		"upstream/auto/memory.go:Memory":          "its mutex is never held over a wait",
		"upstream/store.go:store":                 "its mutex is never held over a wait, and not taken for a request",
		"upstream/store.go:store.wake":            "there is a default",
		"upstream/health/service.go:Service":      "all shards share it; its mutex is never held over a wait or a call",
		"listeners/local/memory.go:memory":        "its mutex is never held over a wait",
		"proxy/limit/slots.go:Concurrency":        "all shards count together; its mutex is never held over a wait or a call",
		"proxy/limit/rate.go:Rate":                "as Concurrency",
		"proxy/once/entry.go:entry":               "attempts may come to several shards; its mutex is never held over a wait or a call",
		"proxy/once/once.go:Memory":               "all shards share it; its mutex is never held over a wait or a call",
		"upstream/direct/places.go:Places":        "as speeches",
		"upstream/direct/speech.go:speeches":      "all shards share it; its mutex is never held over a wait or a call",
		"listeners/peer/peer.go:Server":           "accepts and shakes hands on goroutines of its own",
		"listeners/peer/peer.go:Server.Run":       "accepts on its own goroutine",
		"listeners/peer/peer.go:Server.handshake": "a goroutine per handshake",
	}
}

// TestNothingBlocks looks for what would stop a loop: package sync's waits, channels, time.Sleep, files, names. It is
// allowed in a function literal given to Offload, where the doc comment says offTheLoops, and where mayBlock says so.
func TestNothingBlocks(t *testing.T) {
	allowed := mayBlock()
	for _, room := range taskRooms {
		for _, file := range goFiles(t, filepath.Join("../..", room)) {
			for _, b := range blockingUses(t, file) {
				key := strings.TrimPrefix(filepath.ToSlash(file), "../../") + ":" + b.function
				folder := key[:strings.LastIndexByte(key, '/')+1]
				if allowed[key] == "" && allowed[folder] == "" {
					t.Errorf("%s: %s at line %d would stop the loop: give it to Offload, say %q in the doc comment of %s if that is so, or list %q in mayBlock",
						file, b.what, b.line, offTheLoops, b.function, key)
				}
			}
		}
	}
}

func goFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && os.IsNotExist(err):
			return nil
		case err != nil:
			return err
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// blockingUse is one expression that may block.
type blockingUse struct {
	function, what string
	line           int
}

// blockingUses parses one file. It knows no types, so it goes by the names of imported packages.
func blockingUses(t *testing.T, path string) []blockingUse {
	t.Helper()
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string]string) // local name to path
	for _, i := range f.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		name := p[strings.LastIndexByte(p, '/')+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = p
	}
	var uses []blockingUse
	for _, d := range f.Decls {
		name := declName(d)
		if strings.Contains(declDoc(d), offTheLoops) {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if offloads(n) {
				return false
			}
			if what := blocks(n, imports); what != "" {
				uses = append(uses, blockingUse{name, what, files.Position(n.Pos()).Line})
			}
			return true
		})
	}
	return uses
}

// declName is "f", "T.f" for a method, or the name of the first type or variable.
func declName(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || len(d.Recv.List) == 0 {
			return d.Name.Name
		}
		r := d.Recv.List[0].Type
		if s, ok := r.(*ast.StarExpr); ok {
			r = s.X
		}
		if i, ok := r.(*ast.IndexExpr); ok {
			r = i.X
		}
		return fmt.Sprint(r) + "." + d.Name.Name
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				return s.Name.Name
			case *ast.ValueSpec:
				return s.Names[0].Name
			}
		}
	}
	return ""
}

// declDoc is the doc comment, as one line.
func declDoc(d ast.Decl) string {
	var doc *ast.CommentGroup
	switch d := d.(type) {
	case *ast.FuncDecl:
		doc = d.Doc
	case *ast.GenDecl:
		doc = d.Doc
	}
	return strings.Join(strings.Fields(doc.Text()), " ")
}

// offloads reports whether n is a call of a method Offload.
func offloads(n ast.Node) bool {
	c, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	s, ok := c.Fun.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Offload"
}

// blocks names what n may wait for, or returns "".
func blocks(n ast.Node, imports map[string]string) string {
	switch n := n.(type) {
	case *ast.SendStmt:
		return "a send on a channel"
	case *ast.SelectStmt:
		return "select"
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			return "a receive from a channel"
		}
	case *ast.SelectorExpr:
		x, ok := n.X.(*ast.Ident)
		if !ok || imports[x.Name] == "" {
			return ""
		}
		if forbidden(imports[x.Name], n.Sel.Name) {
			return imports[x.Name] + "." + n.Sel.Name
		}
	}
	return ""
}

// forbidden reports whether the exported name of a standard package may wait.
func forbidden(path, name string) bool {
	switch path {
	case "sync":
		return slices.Contains([]string{"Mutex", "RWMutex", "WaitGroup", "Cond", "NewCond"}, name)
	case "time":
		return slices.Contains([]string{"Sleep", "After", "Tick", "NewTimer", "NewTicker"}, name)
	case "os":
		return slices.Contains([]string{"Open", "OpenFile", "Create", "CreateTemp", "ReadFile", "WriteFile", "ReadDir", "Remove",
			"RemoveAll", "Rename", "Mkdir", "MkdirAll", "MkdirTemp", "Stat", "Lstat"}, name)
	case "net":
		return strings.HasPrefix(name, "Dial") && name != "Dialer" || strings.HasPrefix(name, "Lookup") ||
			strings.HasPrefix(name, "Resolve") || name == "Dialer" || name == "Resolver"
	case "os/exec", "io/ioutil", "net/http":
		return true
	}
	return false
}
