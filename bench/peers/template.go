package peers

import (
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// write fills a peer's template in and returns the path of the result.
func (s side) write(name, text string) (string, error) {
	tmpl, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := tmpl.Execute(&out, s); err != nil {
		return "", err
	}
	path := filepath.Join(s.Dir, name)
	return path, os.WriteFile(path, []byte(out.String()), 0o600)
}
