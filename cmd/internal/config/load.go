package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the file that Load reads; a larger one is refused.
const maxFile = 8 << 20 // bytes: tens of thousands of services

// Load reads the file at path. The error is Problems, one for each mistake, or that of reading the file.
func Load(path string) (*Config, error) { return LoadWith(path, Flags{}) }

// LoadWith is Load with flags, which win over what the file says.
func LoadWith(path string, flags Flags) (*Config, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	c, err := read(path, filepath.Dir(abs), data, flags)
	if err != nil {
		return nil, err
	}
	c.File, c.sum = abs, sha256.Sum256(data)
	return c, nil
}

// Changed reports whether the content of the file that c came from is another one now.
func (c *Config) Changed() (bool, error) {
	data, err := readFile(c.File)
	return err == nil && sha256.Sum256(data) != c.sum, err
}

// FromFlags makes a configuration without a file. The error is Problems.
func FromFlags(flags Flags) (*Config, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	return read("", dir, nil, flags)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: larger than 8 MiB; this is no configuration", path)
	}
	return data, nil
}

// read makes the tree from data (nil for flags alone), which came from file in the folder dir.
func read(file, dir string, data []byte, flags Flags) (*Config, error) {
	d := &decoder{
		file:   file,
		dir:    dir,
		most:   max(maxNodes, len(data)), // a value that is written out takes a byte at least
		flags:  make(map[*yaml.Node]string),
		places: make(map[string]*yaml.Node),
		bad:    make(map[string]bool),
		usual:  make(map[string]bool),
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}
	if data != nil {
		root = d.document(data)
	}
	if root != nil && root.Kind != yaml.MappingNode {
		d.report(root, "", "wrong type: %s; write keys and values, as in service: orders", describe(root))
		root = nil
	}
	if root == nil {
		return nil, d.problems
	}
	d.overlay(root, flags)
	c := new(Config)
	d.mapping("", root, reflect.ValueOf(c).Elem())
	d.check(c)
	if len(d.problems) > 0 {
		d.problems = tidy(d.problems)
		return nil, d.problems
	}
	d.noteFiles(c)
	return c, nil
}

// document parses the one YAML document of data, or reports why there is none.
func (d *decoder) document(data []byte) *yaml.Node {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		d.problems = append(d.problems, Problem{File: d.file, Line: 1 + bytes.Count(data[:i], []byte("\n")), Column: 1,
			Text: "a zero byte; this is no text file"})
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.problems = append(d.problems, Problem{File: d.file, Line: 1, Column: 1, Text: emptyText})
		return nil
	case err != nil:
		d.problems = append(d.problems, syntaxProblem(d.file, data, err))
		return nil
	}
	root := doc.Content[0]
	if isNull(root) {
		d.report(root, "", emptyText)
		return nil
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		d.problems = append(d.problems, syntaxProblem(d.file, data, err))
	default:
		d.report(&second, "", "a second document begins here; keep one in a file")
	}
	return root
}

const emptyText = "the file is empty; write at least the name of this workload, as in service: orders"

// syntaxProblem turns what the YAML parser says, "yaml: line 3: …", into a Problem.
func syntaxProblem(file string, data []byte, err error) Problem {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	p := Problem{File: file, Line: 1, Column: 1}
	if m := regexp.MustCompile(`^line (\d+): `).FindStringSubmatch(text); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	if name, ok := strings.CutPrefix(text, "unknown anchor '"); ok {
		name, _, _ = strings.Cut(name, "'")
		if before, _, found := strings.Cut(string(data), "*"+name); found {
			p.Line = 1 + strings.Count(before, "\n")
			p.Column = len(before) - strings.LastIndexByte(before, '\n')
			p.Text = fmt.Sprintf("*%s stands for nothing; write &%s where the value is defined, above this line", clip(name), clip(name))
			return p
		}
	}
	p.Text = "this is not YAML: " + text
	lines := strings.Split(string(data), "\n")
	switch {
	case strings.Contains(text, "cannot start any token") && p.Line <= len(lines) && strings.Contains(lines[p.Line-1], "\t"):
		p.Text += "; write spaces, not tabs"
	case strings.Contains(text, "did not find expected key"), strings.Contains(text, "mapping values are not allowed"):
		p.Text += "; check how far the lines around this one are indented, and put quotes around a value with a colon in it"
	}
	return p
}

// maxProblems is how many mistakes are told; then only their number.
const maxProblems = 200

// tidy sorts problems by their place and removes those that are the same, as an alias used twice makes them.
func tidy(ps Problems) Problems {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := ps[i], ps[j]
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	kept := ps[:0]
	for i, p := range ps {
		if i == 0 || p != ps[i-1] {
			kept = append(kept, p)
		}
	}
	if more := len(kept) - maxProblems; more > 0 {
		last := kept[maxProblems]
		kept = append(kept[:maxProblems], Problem{File: last.File, Line: last.Line, Column: last.Column, Text: fmt.Sprintf("and %d more mistakes from here on", more)})
	}
	return kept
}
