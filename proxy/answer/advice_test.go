package answer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/pillion-proxy/pillion/proxy"
)

// TestAdvice: for each code that there is, somebody has thought of what to do.
func TestAdvice(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			for _, v := range s.(*ast.ValueSpec).Values {
				code, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				if n++; Advice(proxy.Code(code)) == "" {
					t.Errorf("no advice for %s", code)
				}
			}
		}
	}
	if n < 19 {
		t.Errorf("%d codes found", n)
	}
}
