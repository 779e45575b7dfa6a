package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

var update = flag.Bool("update", false, "write what the tests get into the golden files")

// actAsPillion makes the test's executable be pillion: the tests start it as a process.
const actAsPillion = "PILLION_TEST_ACT"

func TestMain(m *testing.M) {
	if os.Getenv(actAsPillion) != "" {
		os.Unsetenv(actAsPillion)
		main()
		return
	}
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// atOnce is how many of the tests that may run at once do, however few processors there are: they wait most of the time.
const atOnce = "4"

// result is what a command line did.
type result struct {
	code        int
	out, errors string
}

// pillion runs one command line in this process.
func pillion(t *testing.T, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := execute(context.Background(), args, strings.NewReader(""), &out, &errs)
	return result{code, out.String(), errs.String()}
}

// inFolder moves the test into an empty folder, which is also its home.
func inFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("HOME", dir)
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv(tokenEnv, "")
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMessages: each mistake of a user is one sentence, with its exit code, and nothing on standard output.
func TestMessages(t *testing.T) {
	golden, err := filepath.Abs("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := inFolder(t)
	write(t, "bad.yaml", "service: web\nlisten: 1\ndrain: 30\n")
	write(t, "exists.yaml", "service: web\n")
	write(t, "noadmin.yaml", "service: web\nadmin: {listen: none}\n")
	var b strings.Builder
	for _, line := range []string{
		"stat",
		"nonsense",
		"run",
		"run --bogus",
		"run -c nope.yaml",
		"run -c .",
		"run -c bad.yaml",
		"run -c exists.yaml extra",
		"run --service web -- no-such-command",
		"run --service web -- " + dir,
		"run --service Web --app x --to api --to b=db --listen 99999 --drain 5",
		"check",
		"check extra",
		"check -c bad.yaml",
		"check -o yaml",
		"init exists.yaml",
		"init --service UPPER new.yaml",
		"init a b",
		"ca frob",
		"ca show",
		"ca issue",
		"ca issue web",
		"wait --admin 127.0.0.1:1 --timeout 300ms",
		"wait --admin a%b --timeout 1s",
		"wait -c noadmin.yaml",
		"status --admin 127.0.0.1:1",
		"status -c bad.yaml",
		"version extra",
	} {
		r := pillion(t, strings.Fields(line)...)
		if r.out != "" {
			t.Errorf("pillion %s wrote to standard output: %q", line, r.out)
		}
		b.WriteString("$ pillion " + line + "\n" + r.errors)
		b.WriteString(strings.Repeat(" ", 4) + "exit " + string('0'+rune(r.code/100)) + string('0'+rune(r.code/10%10)) + string('0'+rune(r.code%10)) + "\n")
	}
	compare(t, golden, strings.ReplaceAll(b.String(), dir, "DIR"))
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		write(t, file, got)
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (go test -args -update writes it anew)\ngot:\n%s\nwant:\n%s", file, got, want)
	}
}

// TestInitCheck: what init writes is accepted, is not overwritten, and names the folder's service.
func TestInitCheck(t *testing.T) {
	inFolder(t)
	if err := os.Mkdir("Order Service", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir("Order Service")
	if r := pillion(t, "init"); r.code != 0 || !strings.Contains(r.out, "order-service") {
		t.Fatalf("init = %+v", r)
	}
	if r := pillion(t, "check"); r.code != 0 || r.out != "pillion.yaml: ok\n" || r.errors != "" {
		t.Errorf("check = %+v", r)
	}
	if r := pillion(t, "init"); r.code != 1 {
		t.Errorf("init over a file = %+v, want exit code 1", r)
	}
	r := pillion(t, "init", "-o", "json", "--service", "web", "other.yaml")
	var got map[string]string
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || got["file"] != "other.yaml" || got["service"] != "web" {
		t.Errorf("init -o json = %+v, %v", r, err)
	}
}

func TestCheckJSON(t *testing.T) {
	inFolder(t)
	write(t, "bad.yaml", "service: web\ndrain: 30\n")
	write(t, "warn.yaml", "service: web\noutbound: {listen: \":15001\"}\n")
	for _, c := range []struct {
		file               string
		code               int
		problems, warnings int
	}{{"bad.yaml", 2, 1, 0}, {"warn.yaml", 0, 0, 1}} {
		r := pillion(t, "check", "-o", "json", "-c", c.file)
		var got struct {
			OK                 bool
			Problems, Warnings []problemJSON
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatalf("%s: %v in %+v", c.file, err, r)
		}
		if r.code != c.code || got.OK != (c.code == 0) || len(got.Problems) != c.problems || len(got.Warnings) != c.warnings || r.errors != "" {
			t.Errorf("%s: %+v, code %d, stderr %q", c.file, got, r.code, r.errors)
		}
		for _, p := range append(got.Problems, got.Warnings...) {
			if p.File != c.file || p.Line != 2 || p.Column == 0 || p.Text == "" {
				t.Errorf("%s: %+v", c.file, p)
			}
		}
	}
}

// TestPrintDefaults: the whole configuration is itself a configuration.
func TestPrintDefaults(t *testing.T) {
	inFolder(t)
	r := pillion(t, "check", "--print-defaults")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, key := range []string{"service:", "drain: 30s", "endpoints: dns:billing.internal", "head: 64KiB"} {
		if !strings.Contains(r.out, key) {
			t.Errorf("no %q in what --print-defaults prints", key)
		}
	}
	write(t, "pillion.yaml", r.out)
	if r := pillion(t, "check"); r.code != 0 {
		t.Errorf("the printed defaults are refused: %s", r.errors)
	}
	if r := pillion(t, "check", "--print-schema"); !json.Valid([]byte(r.out)) {
		t.Errorf("--print-schema prints no JSON: %.100s", r.out)
	}
	if r := pillion(t, "check", "--print-defaults", "-o", "json"); r.code != 2 || r.out != "" || !strings.Contains(r.errors, "prints YAML") {
		t.Errorf("--print-defaults -o json: %+v; want a refusal, not YAML", r)
	}
}

func TestVersionAndHelp(t *testing.T) {
	if r := pillion(t, "version"); r.code != 0 || !strings.HasPrefix(r.out, "pillion ") {
		t.Errorf("version = %+v", r)
	}
	var v versionInfo
	if r := pillion(t, "version", "-o", "json"); json.Unmarshal([]byte(r.out), &v) != nil || v.Go == "" {
		t.Errorf("version -o json = %+v", r)
	}
	if r := pillion(t, "help", "config"); strings.TrimSpace(r.out) != strings.TrimSpace(config.Reference()) {
		t.Errorf("help config = %+v", r)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := pillion(t, "completion", shell); r.code != 0 || r.out == "" {
			t.Errorf("completion %s = code %d, %s", shell, r.code, r.errors)
		}
	}
}

// TestHelp: every command says what it does and takes -o json if it prints facts.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s says nothing about itself", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	root := newRoot(new(beginning))
	walk(root)
	for _, path := range []string{"check", "init", "ca init", "ca issue", "ca show", "wait", "status", "version"} {
		c, _, err := root.Find(strings.Fields(path))
		if err != nil || c.Flags().ShorthandLookup("o") == nil {
			t.Errorf("%s has no -o: %v", path, err)
		}
	}
}
