// Package twoservices holds the test of this example: it runs the commands of README.md.
package twoservices

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reader does what somebody does who pastes the commands of README.md, without needing a shell or curl.
type reader struct {
	t    *testing.T
	jobs []*job
	last string // what the last block of commands printed
}

// job is one command that was put into the background.
type job struct {
	line   string
	cmd    *exec.Cmd
	output *bytes.Buffer
}

// TestReadme runs the commands of README.md in this folder and compares what they print with what it says.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	oneAtATime(t)
	if err := os.RemoveAll("run"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll("run") })
	r := &reader{t: t}
	t.Cleanup(r.end)
	blocks := 0
	for kind, block := range fenced(string(text)) {
		blocks++
		switch kind {
		case "sh":
			r.last = ""
			for line := range strings.Lines(block) {
				r.do(strings.TrimSpace(line))
			}
		case "text":
			if want := strings.TrimSpace(block); !strings.Contains(r.last, want) {
				t.Fatalf("README.md says that this is printed:\n%s\ngot:\n%s", want, r.last)
			}
		default:
			t.Fatalf("README.md has a block of kind %q: this test knows sh and text", kind)
		}
	}
	if blocks < 10 || r.jobs != nil {
		t.Errorf("README.md has %d blocks and leaves %d jobs: is something missing?", blocks, len(r.jobs))
	}
}

// oneAtATime waits for other runs of this test on the machine: the ports are those of the README.
func oneAtATime(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "pillion-two-services.lock"), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for range 600 {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("another run of this test holds %s: %v", f.Name(), err)
}

// fenced yields kind and content of each fenced block.
func fenced(text string) func(func(string, string) bool) {
	return func(yield func(string, string) bool) {
		parts := strings.Split(text, "```")
		for i := 1; i < len(parts); i += 2 {
			kind, content, _ := strings.Cut(parts[i], "\n")
			if !yield(kind, content) {
				return
			}
		}
	}
}

// do carries out one line.
func (r *reader) do(line string) {
	r.t.Helper()
	args := strings.Fields(line)
	switch {
	case len(args) == 0:
	case args[0] == "cd": // the test runs there already
	case args[0] == "curl":
		r.curl(line, args[1:])
	case args[0] == "kill":
		r.kill(line, args[1:])
	case args[len(args)-1] == "&":
		r.background(line, args[:len(args)-1])
	default:
		r.run(line, args)
	}
}

// command splits settings of the environment from a command.
func command(args []string) *exec.Cmd {
	var env []string
	for len(args) > 1 && strings.Contains(args[0], "=") {
		env, args = append(env, args[0]), args[1:]
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = time.Second
	return cmd
}

func (r *reader) run(line string, args []string) {
	r.t.Helper()
	cmd := command(args)
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s%s", line, err, out, r.outputs())
	}
	r.last += string(out)
}

func (r *reader) background(line string, args []string) {
	r.t.Helper()
	j := &job{line: line, cmd: command(args), output: new(bytes.Buffer)}
	j.cmd.Stdout, j.cmd.Stderr = j.output, j.output
	if err := j.cmd.Start(); err != nil {
		r.t.Fatalf("%s: %v", line, err)
	}
	r.jobs = append(r.jobs, j)
	if args[len(args)-1] == "run/stock" || args[len(args)-1] == "run/shop" {
		r.awaitApp(args[len(args)-1])
	}
}

// awaitApp waits until an app listens; somebody who types is never faster.
func (r *reader) awaitApp(name string) {
	r.t.Helper()
	addr := map[string]string{"run/stock": "127.0.0.1:17200", "run/shop": "127.0.0.1:17100"}[name]
	for range 500 {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("%s does not listen on %s\n%s", name, addr, r.outputs())
}

// curl understands -x PROXY, -H NAME:VALUE and a URL.
func (r *reader) curl(line string, args []string) {
	r.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	header := make(http.Header)
	for len(args) > 2 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-x":
			proxy, err := url.Parse(args[1])
			if err != nil {
				r.t.Fatalf("%s: %v", line, err)
			}
			transport.Proxy = http.ProxyURL(proxy)
		case "-H":
			name, value, _ := strings.Cut(args[1], ":")
			header.Set(name, value)
		default:
			r.t.Fatalf("%s: this test does not know %s", line, args[0])
		}
		args = args[2:]
	}
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	if err != nil {
		r.t.Fatalf("%s: %v", line, err)
	}
	req.Header = header
	req.Host = header.Get("Host") // "" is that of the URL
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, r.outputs())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, r.outputs())
	}
	r.last += string(body)
}

// kill ends every job: the README does not leave one.
func (r *reader) kill(line string, args []string) {
	r.t.Helper()
	if len(args) != len(r.jobs) {
		r.t.Fatalf("%s: there are %d jobs", line, len(r.jobs))
	}
	for _, j := range r.jobs {
		if err := j.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			r.t.Errorf("%s: %v", j.line, err)
		}
	}
	r.end()
}

// end waits for every job, and kills those that do not end.
func (r *reader) end() {
	for _, j := range r.jobs {
		late := time.AfterFunc(10*time.Second, func() {
			r.t.Errorf("%s did not end", j.line)
			_ = j.cmd.Process.Kill()
		})
		if r.t.Failed() {
			_ = j.cmd.Process.Signal(syscall.SIGTERM)
		}
		err := j.cmd.Wait()
		late.Stop()
		if strings.Contains(j.line, "pillion run") && err != nil && !r.t.Failed() {
			r.t.Errorf("%s: %v\n%s", j.line, err, j.output)
		}
	}
	r.jobs = nil
}

// outputs returns what the jobs wrote. It ends them, so that nothing is written meanwhile: call it when all is lost.
func (r *reader) outputs() string {
	var b strings.Builder
	for _, j := range r.jobs {
		_ = j.cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(5*time.Second, func() { _ = j.cmd.Process.Kill() })
		_ = j.cmd.Wait()
		late.Stop()
		fmt.Fprintf(&b, "%s:\n%s\n", j.line, j.output)
	}
	r.jobs = nil
	return b.String()
}
