package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/proxy"
)

const moduleRoot = "../.."

var (
	codeSpan  = regexp.MustCompile("`([^`\n]+)`")
	linkTo    = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	fencedIn  = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```")
	pathSpan  = regexp.MustCompile(`^\.?[\w.-]+(/[\w.-]+)*/?$`)
	codeRow   = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]{3}) \\|")
	topLevels = []string{"proxy", "listeners", "upstream", "discovery", "tls", "cmd", "examples", "bench", ".ci"}
)

// readme returns the text of README.md.
func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleRoot, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns the fenced blocks of this kind.
func blocks(text, kind string) []string {
	var found []string
	for _, m := range fencedIn.FindAllStringSubmatch(text, -1) {
		if m[1] == kind {
			found = append(found, m[2])
		}
	}
	return found
}

// TestReadmePaths: every file and folder that the README names exists.
func TestReadmePaths(t *testing.T) {
	text := readme(t)
	var paths []string
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		top, _, _ := strings.Cut(m[1], "/")
		if pathSpan.MatchString(m[1]) && slices.Contains(topLevels, top) {
			paths = append(paths, m[1])
		}
	}
	for _, m := range linkTo.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(m[1], "://") {
			paths = append(paths, m[1])
		}
	}
	if len(paths) < 20 {
		t.Fatalf("found only %d paths in README.md: does this test still read it right?", len(paths))
	}
	for _, p := range paths {
		if _, err := os.Stat(filepath.Join(moduleRoot, p)); err != nil {
			t.Errorf("README.md names %s: %v", p, err)
		}
	}
}

// TestReadmeCommands: every command line of pillion that the README shows is one.
func TestReadmeCommands(t *testing.T) {
	text := readme(t)
	var lines []string
	for _, block := range blocks(text, "sh") {
		lines = append(lines, strings.Split(block, "\n")...)
	}
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		lines = append(lines, m[1])
	}
	found := 0
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "  #")
		args := strings.Fields(line)
		switch {
		case len(args) > 1 && args[0] == "pillion":
			args = args[1:]
		case len(args) > 3 && slices.Equal(args[:3], []string{"go", "run", "./cmd/pillion"}):
			args = args[3:]
		default:
			continue
		}
		found++
		if err := checkLine(args); err != nil {
			t.Errorf("README.md: %s: %v", strings.TrimSpace(line), err)
		}
	}
	if found < 15 {
		t.Fatalf("found only %d commands in README.md: does this test still read it right?", found)
	}
}

// checkLine finds the command and lets it parse its flags and judge its arguments; it does not run it.
func checkLine(args []string) error {
	root := newRoot(new(beginning))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	c, rest, err := root.Find(args)
	switch {
	case err != nil:
		return err
	case c == root:
		return errors.New("no such command")
	case c.Name() == "help":
		_, _, err := root.Find(rest)
		return err
	}
	if err := c.ParseFlags(rest); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return c.ValidateArgs(c.Flags().Args())
}

// TestReadmeNamesCommands: every command that is not hidden has its line in the README.
func TestReadmeNamesCommands(t *testing.T) {
	text := readme(t)
	for _, c := range newRoot(new(beginning)).Commands() {
		if c.IsAvailableCommand() && !strings.Contains(text, "`pillion "+c.Name()) {
			t.Errorf("README.md does not name pillion %s", c.Name())
		}
	}
}

// TestReadmeYAML: every configuration in the README is accepted, without a warning.
func TestReadmeYAML(t *testing.T) {
	found := blocks(readme(t), "yaml")
	if len(found) == 0 {
		t.Fatal("found no configuration in README.md")
	}
	for _, text := range found {
		file := filepath.Join(t.TempDir(), "pillion.yaml")
		write(t, file, text)
		c, err := config.Load(file)
		if err != nil || len(c.Warnings) > 0 {
			t.Errorf("README.md has this configuration:\n%s\n%v", text, err)
		}
	}
}

// TestReadmeMistakes: what the README says of a mistake is what pillion says.
func TestReadmeMistakes(t *testing.T) {
	text := readme(t)
	inFolder(t)
	write(t, "pillion.yaml", "service: orders\napp: 8080\nservces:\n  billing: 10.0.0.7\noutbound: {listen: 127.0.0.1:99999}\n")
	got := pillion(t, "check", "-c", "pillion.yaml")
	if got.code != 2 {
		t.Errorf("exit status: got %d, want 2", got.code)
	}
	if !slices.Contains(blocks(text, "text"), got.errors) {
		t.Errorf("README.md shows other messages than these:\n%s", got.errors)
	}
}

// TestReadmeCodes: the codes in the README are those of proxy, with their status.
func TestReadmeCodes(t *testing.T) {
	rows := codeRow.FindAllStringSubmatch(readme(t), -1)
	if len(rows) < 5 {
		t.Fatalf("found only %d codes in README.md", len(rows))
	}
	for _, row := range rows {
		if got := proxy.Code(row[1]).Status(); row[2] != strconv.Itoa(got) || got == 500 && row[1] != string(proxy.AttemptForgotten) {
			t.Errorf("README.md says that %s is %s; it is %d", row[1], row[2], got)
		}
	}
}
