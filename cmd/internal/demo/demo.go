package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/child"
)

const (
	readyWithin = 15 * time.Second // from the start of the processes; a quiet machine needs a tenth
	attempts    = 3                // at ports that nobody else takes meanwhile
	patience    = time.Second      // from Ctrl-C until what runs is cut
	tailLines   = 15               // of each process's output, shown when something went wrong
)

// Config says how to show pillion. Executable is needed.
type Config struct {
	// Executable is the path of pillion. It must know "run -c FILE --until-input-ends" and "demo-app".
	Executable string
	// For ends the demo by itself. If zero, ctx ends it.
	For time.Duration
	// Out gets what people read. If nil, nobody does.
	Out io.Writer
	// Logs, if not nil, gets what the processes write. Their last lines are shown anyway if something goes wrong.
	Logs io.Writer
}

// Run shows pillion until ctx or cfg.For ends. It returns nil only if every kind of traffic flowed and was answered correctly.
// When it returns, every process has ended and the temporary folder is gone.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	for try := 1; ; try++ {
		err := runOnce(ctx, cfg)
		var lost *startError
		if try < attempts && errors.As(err, &lost) && strings.Contains(lost.output, "address already in use") {
			fmt.Fprintln(cfg.Out, "another program was faster at a port: once more with other ports")
			continue
		}
		return err
	}
}

// startError says that the processes did not become ready, and what they wrote.
type startError struct {
	err    error
	output string
}

func (e *startError) Error() string { return e.err.Error() + "\n" + e.output }
func (e *startError) Unwrap() error { return e.err }

// runOnce is Run with one choice of ports.
func runOnce(ctx context.Context, cfg Config) (err error) {
	dir, err := os.MkdirTemp("", "pillion-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	began := time.Now()
	alive, died := context.WithCancelCause(context.Background())
	defer died(nil)
	procs := child.New(cfg.Executable, cfg.Logs, died)
	defer procs.Close()
	t := &topology{addr: make(map[string]netip.AddrPort), dir: dir}
	if err := launch(ctx, alive, procs, t); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted while starting
		}
		procs.Stop(child.Everyone)
		return &startError{err: err, output: outputs(procs)}
	}
	intro(cfg.Out, t, time.Since(began))

	counts, err := show(ctx, alive, cfg, t)
	if err != nil {
		return err
	}
	if killed := stopInOrder(procs); len(killed) > 0 {
		err = fmt.Errorf("had to be killed, %v after they were told to stop: %s", child.KillAfter, strings.Join(killed, ", "))
	}
	fmt.Fprintln(cfg.Out)
	counts.table(cfg.Out)
	if cause := context.Cause(alive); cause != nil {
		err = errors.Join(err, cause)
	}
	err = errors.Join(err, counts.wrong())
	if ctx.Err() == nil { // else somebody had seen enough
		err = errors.Join(err, counts.missing())
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, outputs(procs))
	}
	fmt.Fprintln(cfg.Out, "every answer was right")
	return nil
}

// launch starts the apps and the sidecars and waits until all are ready.
func launch(ctx, alive context.Context, procs *child.Set, t *topology) error {
	if err := t.choosePorts(); err != nil {
		return err
	}
	if err := startApps(procs, t); err != nil {
		return err
	}
	files, err := t.write()
	if err != nil {
		return err
	}
	for _, app := range apps {
		if _, err := procs.Start(child.Command{Name: sidecarOf(app), Args: []string{"run", "--until-input-ends", "-c", files[app]}}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, app := range apps {
		if err := awaitReady(ctx, alive, "http://"+t.at(app, "admin")+"/readyz"); err != nil {
			return fmt.Errorf("%s is not ready: %w", sidecarOf(app), err)
		}
	}
	return nil
}

// startApps opens the apps' sockets and hands them to their processes: no port can be lost on the way.
func startApps(procs *child.Set, t *topology) error {
	for _, app := range apps {
		spec := child.Command{Name: app, Args: []string{"demo-app", app}}
		for i, use := range sockets[app] {
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
			if err != nil {
				return err
			}
			defer l.Close()
			f, err := l.File()
			if err != nil {
				return err
			}
			defer f.Close()
			t.addr[app+" "+use] = l.Addr().(*net.TCPAddr).AddrPort()
			spec.Files = append(spec.Files, f)
			spec.Args = append(spec.Args, fmt.Sprintf("--socket=%s=%d", use, 3+i)) // ExtraFiles begin at 3
		}
		switch app {
		case billing:
			c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
			if err != nil {
				return err
			}
			defer c.Close()
			f, err := c.File()
			if err != nil {
				return err
			}
			defer f.Close()
			t.addr[app+" datagrams"] = c.LocalAddr().(*net.UDPAddr).AddrPort()
			spec.Files = append(spec.Files, f)
			spec.Args = append(spec.Args, fmt.Sprintf("--datagrams=%d", 2+len(spec.Files)))
		case web: // a program that honours HTTP_PROXY
			spec.Args = append(spec.Args, "--next=http://orders")
			spec.Env = []string{"HTTP_PROXY=http://" + t.at(web, "outbound")}
		case orders: // a program that can be told an address, and a Host
			spec.Args = append(spec.Args, "--next=http://"+t.at(orders, "outbound"), "--next-host=billing")
		}
		if _, err := procs.Start(spec); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady waits until url answers 200.
func awaitReady(ctx, alive context.Context, url string) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var last error
	for {
		resp, err := client.Get(url)
		switch {
		case err != nil:
			last = err
		case resp.StatusCode == http.StatusOK:
			resp.Body.Close()
			return nil
		default:
			last = statusError(resp)
			resp.Body.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-alive.Done():
			return context.Cause(alive)
		case <-ctx.Done():
			return last
		}
	}
}

// show runs the traffic and writes a line a second, until the end or until a process dies.
func show(ctx, alive context.Context, cfg Config, t *topology) (*tally, error) {
	d, err := newDriver(t.targets())
	if err != nil {
		return nil, err
	}
	defer d.close()
	hard, cut := context.WithCancel(alive)
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(patience, cut) })() // Ctrl-C
	if cfg.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.For)
		defer cancel()
	}
	probes := d.probes()
	counts := newTally(probes)
	done := make(chan struct{})
	go func() {
		defer close(done)
		traffic(ctx, hard, probes, counts)
	}()
	admins := []string{t.at(web, "admin"), t.at(orders, "admin"), t.at(billing, "admin")}
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for s := 1; ; s++ {
		select {
		case <-done:
			return counts, nil
		case <-second.C:
			fmt.Fprintf(cfg.Out, "%4ds  %s links %s\n", s, counts.line(), linkCount(alive, admins))
		}
	}
}

// intro says what runs and what can be tried.
func intro(w io.Writer, t *topology, took time.Duration) {
	fmt.Fprintf(w, `pillion demo: three services, a sidecar beside each, ready after %s; all of it is gone when this ends

  the shop, through two sidecars   http://%s/
  the sidecars' status             http://%s/status   web
                                   http://%s/status   orders
                                   http://%s/status   billing
  call as web's app does           curl -x http://%s http://orders/orders/7
  how they are configured          %s

`, short(took), t.at(billing, "shop"), t.at(web, "admin"), t.at(orders, "admin"), t.at(billing, "admin"),
		t.at(web, "outbound"), filepath.Join(t.dir, "*.yaml"))
}
