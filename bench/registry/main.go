package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/bench/meter"
)

// options are the command line.
type options struct {
	services, endpoints int
	changes             int
	pillion             string
}

func main() {
	var o options
	flag.IntVar(&o.services, "services", 10_000, "how many services of one endpoint")
	flag.IntVar(&o.endpoints, "endpoints", 5000, "how many endpoints of one service")
	flag.IntVar(&o.changes, "changes", 100, "how many changes of that service, ten a second")
	flag.StringVar(&o.pillion, "pillion", "", "a built pillion; if empty, one is built from this repository")
	flag.Parse()
	if err := run(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "pillion-registry-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.pillion == "" {
		o.pillion = filepath.Join(dir, "pillion")
		build := exec.CommandContext(ctx, "go", "build", "-o", o.pillion, "github.com/pillion-proxy/pillion/cmd/pillion")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build pillion: %w", err)
		}
	}
	reg, err := startEtcd(ctx, filepath.Join(dir, "etcd"))
	if err != nil {
		return err
	}
	defer reg.stop()
	one, err := many(ctx, o, dir, reg)
	if err != nil {
		return err
	}
	two, err := large(ctx, o, dir, reg)
	if err != nil {
		return err
	}
	fmt.Printf("%-34s %s\n%-34s %s\n", fmt.Sprintf("%d services of one endpoint:", o.services), one, fmt.Sprintf("one service of %d endpoints:", o.endpoints), two)
	return nil
}

// figures are what one arrangement costs.
type figures struct {
	known  time.Duration // from the start until every service is known
	rss    int64         // two seconds later
	quiet  int64         // half a minute later, without changes; 0 if that was not waited for
	change time.Duration // CPU of the sidecar per change; 0 if none was made
}

func (f figures) String() string {
	s := fmt.Sprintf("known after %v, RSS %.1f MiB", f.known.Round(time.Millisecond), float64(f.rss)/(1<<20))
	if f.quiet > 0 {
		s += fmt.Sprintf(", %.1f MiB half a minute later", float64(f.quiet)/(1<<20))
	}
	if f.change > 0 {
		s += fmt.Sprintf(", %.2f ms of CPU per change", f.change.Seconds()*1e3)
	}
	return s
}

// many follows many services.
func many(ctx context.Context, o options, dir string, reg *etcd) (figures, error) {
	var keys []string
	var services strings.Builder
	for i := range o.services {
		keys = append(keys, fmt.Sprintf("/pillion/services/s%d/a", i), address(i))
		fmt.Fprintf(&services, "  s%d: etcd:s%d\n", i, i)
	}
	if err := reg.put(ctx, keys); err != nil {
		return figures{}, err
	}
	s, f, err := start(ctx, o, dir, reg, services.String(), o.services)
	if err != nil {
		return f, err
	}
	defer s.stop()
	time.Sleep(30 * time.Second)
	m, err := meter.MemoryOf(s.cmd.Process.Pid)
	f.quiet = m.RSS
	return f, err
}

// large follows one service while it changes.
func large(ctx context.Context, o options, dir string, reg *etcd) (figures, error) {
	var keys []string
	for i := range o.endpoints {
		keys = append(keys, fmt.Sprintf("/pillion/services/large/e%d", i), address(i))
	}
	if err := reg.put(ctx, keys); err != nil {
		return figures{}, err
	}
	s, f, err := start(ctx, o, dir, reg, "  large: etcd:large\n", 1)
	if err != nil {
		return f, err
	}
	defer s.stop()
	before, err := meter.UsageOf(s.cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	for i := range o.changes {
		if err := reg.put(ctx, []string{fmt.Sprintf("/pillion/services/large/e%d", i%o.endpoints), fmt.Sprintf(`{"address":%q,"weight":%d}`, address(i%o.endpoints), 2+i%9)}); err != nil {
			return f, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Second) // what is debounced
	after, err := meter.UsageOf(s.cmd.Process.Pid)
	if err != nil {
		return f, err
	}
	f.change = after.Since(before).CPU / time.Duration(max(o.changes, 1))
	m, err := meter.MemoryOf(s.cmd.Process.Pid)
	f.rss = m.RSS
	return f, err
}

func address(i int) string { return fmt.Sprintf("10.%d.%d.%d:15008", i>>16, i>>8&255, i&255) }

// started is a process that was started here.
type started struct{ cmd *exec.Cmd }

func (s started) stop() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()         // killed
}

// start runs a sidecar with these services, until it knows where all of them are.
func start(ctx context.Context, o options, dir string, reg *etcd, services string, n int) (s started, f figures, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return s, f, err
	}
	conf := filepath.Join(dir, "pillion.yaml")
	text := fmt.Sprintf("service: bench\npeer: {listen: none}\noutbound: {listen: %q}\nadmin: {listen: %q}\nidentity: {dev_ca: %q}\netcd: {endpoints: [%q]}\nservices:\n%s",
		ports[0], ports[1], filepath.Join(dir, "ca"), reg.addr, services)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return s, f, err
	}
	s.cmd = exec.CommandContext(ctx, o.pillion, "run", "-c", conf)
	said, err := s.cmd.StderrPipe()
	if err != nil {
		return s, f, err
	}
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		return s, f, err
	}
	if err := hear(said, n); err != nil {
		s.stop()
		return s, f, err
	}
	f.known = time.Since(began)
	time.Sleep(2 * time.Second) // what the start has left is given back
	m, err := meter.MemoryOf(s.cmd.Process.Pid)
	f.rss = m.RSS
	return s, f, err
}

// hear reads what a sidecar logs until it has said of n services where they are: to ask it for its status would cost more than what is measured.
// The rest is read for as long as it runs.
func hear(said io.Reader, n int) error {
	lines := bufio.NewScanner(said)
	for known := 0; known < n; {
		if !lines.Scan() {
			return fmt.Errorf("pillion ended when it knew %d of %d services", known, n)
		}
		if strings.Contains(lines.Text(), "endpoints changed") {
			known++
		}
	}
	go discard(lines)
	return nil
}

// discard ends with the sidecar, which closes the pipe.
func discard(lines *bufio.Scanner) {
	for lines.Scan() {
	}
}

// freePorts are addresses of loopback on which nobody listens.
func freePorts(n int) ([]string, error) {
	var all []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		all = append(all, ln.Addr().String())
	}
	return all, nil
}
