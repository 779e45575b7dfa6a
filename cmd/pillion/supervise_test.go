package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
)

// patience bounds each wait of these tests. None needs more than a fraction of it.
const patience = 30 * time.Second

// process is a pillion that runs beside the test.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of standard output: what the app writes
	errs  *syncBuffer
	ended chan struct{}
}

// syncBuffer is a bytes.Buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// supervise starts "pillion run" with a shell script as the app. Every listener gets a port of its own.
func supervise(t *testing.T, drain, script string) *process {
	t.Helper()
	dir := inFolder(t)
	cmd := exec.Command(os.Args[0], "run", "--service", "web", "--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--dev-ca", dir+"/ca", "--drain", drain, "--", "sh", "-c", script)
	cmd.Env = append(os.Environ(), actAsPillion+"=1")
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	p := &process{t: t, cmd: cmd, lines: make(chan string, 100), errs: new(syncBuffer), ended: make(chan struct{})}
	cmd.Stderr = p.errs
	// Without this Wait lasts until the last heir of the pipe has gone.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go p.read(out)
	go p.await()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		out.Close()
	})
	return p
}

func (p *process) read(r io.Reader) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		p.lines <- s.Text()
	}
}

func (p *process) await() {
	p.cmd.Wait()
	close(p.ended)
}

// line waits for the next line that the app writes.
func (p *process) line() string {
	p.t.Helper()
	select {
	case l := <-p.lines:
		return l
	case <-time.After(patience):
		p.t.Fatalf("the app writes nothing; pillion says:\n%s", p.errs)
		return ""
	}
}

// expect waits for a line that is want.
func (p *process) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Fatalf("the app writes %q, want %q; pillion says:\n%s", got, want, p.errs)
	}
}

// number waits for a line that is a number.
func (p *process) number() int {
	p.t.Helper()
	l := p.line()
	n, err := strconv.Atoi(l)
	if err != nil {
		p.t.Fatalf("the app writes %q, want a number", l)
	}
	return n
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// code waits for the end and returns the exit code.
func (p *process) code() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("pillion does not end; it says:\n%s", p.errs)
		return -1
	}
}

// gone waits until no process has this number.
func gone(t *testing.T, pid int) {
	t.Helper()
	for range int(patience / (10 * time.Millisecond)) {
		if syscall.Kill(pid, 0) == syscall.ESRCH || isZombie(pid) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is still there", pid)
}

// isZombie reports whether pid has ended and only waits for a parent that is not ours to be collected.
func isZombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, found := strings.Cut(string(stat), ") ")
	return err == nil && found && strings.HasPrefix(rest, "Z")
}

// TestCode: the app's exit code is pillion's.
func TestCode(t *testing.T) {
	for _, c := range []struct {
		script string
		want   int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -KILL $$", 128 + 9}, {"kill -TERM $$", 128 + 15}} {
		if got := supervise(t, "5s", c.script).code(); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.script, got, c.want)
		}
	}
}

// TestEnvironment: the app finds the proxy, and its own address is not proxied.
func TestEnvironment(t *testing.T) {
	p := supervise(t, "5s", `echo "$HTTP_PROXY"; echo "$http_proxy"; echo "$NO_PROXY"; echo "$PILLION_SERVICE"; echo "$PILLION_ADMIN"`)
	upper, lower := p.line(), p.line()
	if upper != lower || upper != "" && !strings.HasPrefix(upper, "http://127.0.0.1:") {
		t.Errorf("HTTP_PROXY=%q http_proxy=%q", upper, lower)
	}
	p.line()
	p.expect("web")
	if admin := p.line(); !strings.HasPrefix(admin, "127.0.0.1:") || strings.HasSuffix(admin, ":0") {
		t.Errorf("PILLION_ADMIN=%q", admin)
	}
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestSignalsPassedOn: SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 reach the app and do not stop pillion; SIGTERM stops both in order.
func TestSignalsPassedOn(t *testing.T) {
	p := supervise(t, "20s", `
		trap 'echo hup' HUP; trap 'echo quit' QUIT; trap 'echo usr1' USR1; trap 'echo usr2' USR2; trap 'echo term; exit 3' TERM
		echo up; while :; do sleep 0.02; done`)
	p.expect("up")
	for _, s := range []struct {
		sig  syscall.Signal
		want string
	}{{syscall.SIGHUP, "hup"}, {syscall.SIGQUIT, "quit"}, {syscall.SIGUSR1, "usr1"}, {syscall.SIGUSR2, "usr2"}} {
		if s.sig == syscall.SIGHUP && signal.Ignored(syscall.SIGHUP) {
			continue // as under nohup: a shell cannot trap what was ignored before it began
		}
		p.signal(s.sig)
		p.expect(s.want)
	}
	p.signal(syscall.SIGTERM)
	p.expect("term")
	if code := p.code(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

// TestInterrupt: SIGINT, too, stops in order: the app gets SIGTERM, once.
func TestInterrupt(t *testing.T) {
	p := supervise(t, "20s", `trap 'echo int' INT; trap 'echo term; exit 0' TERM; echo up; while :; do sleep 0.02; done`)
	p.expect("up")
	p.signal(syscall.SIGINT)
	p.expect("term")
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestDrainEnds: an app that does not listen is killed when the drain time is over.
func TestDrainEnds(t *testing.T) {
	p := supervise(t, "300ms", `trap '' TERM; echo $$; while :; do sleep 0.02; done`)
	pid := p.number()
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
	gone(t, pid)
}

// TestSecondSignal ends at once, however long the drain is, and leaves nothing behind.
func TestSecondSignal(t *testing.T) {
	p := supervise(t, "1h", `trap 'echo term' TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 0.02; done`)
	child, pid := p.number(), p.number()
	p.signal(syscall.SIGTERM)
	p.expect("term")
	time.Sleep(2 * sameSignal)
	p.signal(syscall.SIGTERM)
	if code := p.code(); code != 128+15 {
		t.Errorf("exit code %d, want 143", code)
	}
	gone(t, pid)
	gone(t, child)
}

// TestSignalTwice: timeout(1) signals the process and then its group, where it is again. That is one wish to stop, not two.
func TestSignalTwice(t *testing.T) {
	p := supervise(t, "20s", `trap 'sleep 0.1; echo term; exit 3' TERM; echo up; while :; do sleep 0.02; done`)
	p.expect("up")
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCONT} { // so that they arrive together
		p.signal(sig)
	}
	p.expect("term")
	if code := p.code(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
}

// TestStragglers: what the app leaves running in its group ends with it, politely if it can, and is awaited.
func TestStragglers(t *testing.T) {
	p := supervise(t, "20s", `
		(trap 'sleep 0.1; echo polite; exit 0' TERM; : > one; while :; do sleep 0.02; done) &
		(trap '' TERM; : > two; sleep 0.3; echo slow) &
		while ! [ -e one -a -e two ]; do sleep 0.02; done; exit 4`)
	got := []string{p.line(), p.line()}
	slices.Sort(got)
	if want := []string{"polite", "slow"}; !slices.Equal(got, want) {
		t.Errorf("the stragglers write %q, want %q", got, want)
	}
	if code := p.code(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
}

// TestOwnGroup: without a terminal, a signal for pillion's group does not reach the app past pillion.
func TestOwnGroup(t *testing.T) {
	p := supervise(t, "5s", `echo $$; read x`)
	pid := p.number()
	group, err := syscall.Getpgid(pid)
	if err == nil && group != pid {
		t.Errorf("the app is in group %d, want its own, %d", group, pid)
	}
}

func testSupervisor(t *testing.T, args ...string) *supervisor {
	t.Helper()
	inFolder(t)
	cfg, err := config.FromFlags(config.Flags{Service: "web"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := newSupervisor(cfg, args, os.Environ(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.ownGroup = true
	a.cmd.SysProcAttr.Setpgid = true
	t.Cleanup(a.Kill)
	return a
}

// TestNobody: a nil supervisor, and one that was not started, have nothing to do.
func TestNobody(t *testing.T) {
	var nobody *supervisor
	idle := testSupervisor(t, "sh", "-c", "exit 1")
	for _, a := range []*supervisor{nobody, idle} {
		a.Listening("admin", nil)
		a.Signal(syscall.SIGHUP)
		a.Stop(context.Background())
		a.Kill()
		if code := a.Code(); code != 0 {
			t.Errorf("Code = %d", code)
		}
		select {
		case <-a.Done():
			t.Error("done without having been started")
		default:
		}
		if err := a.Start(); err != nil { // after Stop it starts nothing
			t.Error(err)
		}
	}
	if idle.started {
		t.Error("started after Stop")
	}
}

// TestStopWithoutTime: Stop with a context that has ended kills.
func TestStopWithoutTime(t *testing.T) {
	a := testSupervisor(t, "sleep", "1000")
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a.Stop(ctx)
	if code := a.Code(); code != 128+9 && code != 128+15 {
		t.Errorf("Code = %d", code)
	}
	a.Stop(ctx) // idempotent
	a.Kill()
}

func TestAppEnv(t *testing.T) {
	cfg, err := config.FromFlags(config.Flags{Service: "web", Listen: ":15001", AdminListen: "none", To: []string{"legacy-db=10.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Services[0].Listen = config.Listen{On: true} // port 0: the system chooses
	before := []string{"HOME=/x", "HTTP_PROXY=http://old:3128", "HTTPS_PROXY=http://old:3128", "NO_PROXY=.corp.example,localhost", "PILLION_ADMIN=stale"}
	kept := slices.Clone(before)
	got := appEnv(before, cfg, map[string]net.Addr{"services.legacy-db": &net.TCPAddr{IP: net.IPv6zero, Port: 5432}})
	slices.Sort(got)
	want := []string{
		"HOME=/x",
		"HTTPS_PROXY=http://old:3128",
		"HTTP_PROXY=http://127.0.0.1:15001",
		"NO_PROXY=.corp.example,localhost,127.0.0.1,127.0.0.0/8,::1",
		"PILLION_OUTBOUND=127.0.0.1:15001",
		"PILLION_SERVICE=web",
		"PILLION_SERVICE_LEGACY_DB=127.0.0.1:5432",
		"http_proxy=http://127.0.0.1:15001",
		"no_proxy=.corp.example,localhost,127.0.0.1,127.0.0.0/8,::1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Equal(before, kept) {
		t.Error("appEnv changed its argument")
	}
	cfg.Outbound.Listen = config.Listen{On: true, Unix: "/run/out.sock"}
	got = appEnv(before, cfg, nil)
	if !slices.Contains(got, "PILLION_OUTBOUND=unix:/run/out.sock") || !slices.Contains(got, "HTTP_PROXY=http://old:3128") {
		t.Errorf("with a socket: %q", got)
	}
}
