package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	rounds  int
	round   time.Duration
	conns   int
	size    int
	peers   string
	pillion string
	threads int
	json    string
	smoke   bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each pair")
	flag.DurationVar(&o.round, "round", 5*time.Second, "how long a round lasts")
	flag.IntVar(&o.conns, "conns", 64, "keep-alive connections")
	flag.IntVar(&o.size, "size", 1024, "bytes of an answer")
	flag.StringVar(&o.peers, "peers", "direct,pillion,haproxy", "what to run, of direct, pillion and haproxy")
	flag.StringVar(&o.pillion, "pillion", "", "a built pillion; if empty, one is built")
	flag.IntVar(&o.threads, "haproxy-threads", 1, "threads of each HAProxy")
	flag.StringVar(&o.json, "json", "", "also write the figures to this file, - for standard output only")
	flag.BoolVar(&o.smoke, "smoke", false, "under a minute; exit status 1 unless pillion's ratio to HAProxy is below 1")
	flag.Parse()
	if o.smoke {
		o.rounds, o.round, o.peers = 5, 2*time.Second, "pillion,haproxy"
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// run starts the bed, measures, prints.
func run(o options) error {
	dir, err := os.MkdirTemp("", "pillion-floor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := writeCerts(dir, "web", "app"); err != nil {
		return err
	}
	a, err := newApp(o.size)
	if err != nil {
		return err
	}
	go a.run()
	pairs, err := startPairs(o, &bed{dir: dir, app: a.addr, pillion: o.pillion, threads: o.threads})
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	if err != nil {
		return err
	}
	rep, err := measure(o, pairs)
	if err != nil {
		return err
	}
	if err := write(o, rep); err != nil {
		return err
	}
	if o.smoke && rep.Ratio >= 1 {
		return fmt.Errorf("the floor does not hold: pillion spends %.2f times the CPU of HAProxy per request, want below 1", rep.Ratio)
	}
	return nil
}

// startPairs starts what -peers names. Pairs that run are returned with an error too, so that they can be stopped.
func startPairs(o options, b *bed) ([]*pair, error) {
	var pairs []*pair
	for _, name := range strings.Split(o.peers, ",") {
		var p *pair
		var err error
		switch name {
		case "direct":
			p = &pair{name: name, addr: b.app}
		case "pillion":
			if b.pillion == "" {
				b.pillion, err = build(b.dir)
			}
			if err == nil {
				p, err = b.startPillion()
			}
		case "haproxy":
			if b.haproxy, err = exec.LookPath("haproxy"); err == nil {
				p, err = b.startHAProxy()
			}
		default:
			err = errors.New("want direct, pillion or haproxy")
		}
		if p != nil {
			pairs = append(pairs, p)
		}
		if err != nil {
			return pairs, fmt.Errorf("%s: %w", name, err)
		}
	}
	return pairs, nil
}

// build makes the binary from the source around this program.
func build(dir string) (string, error) {
	bin := filepath.Join(dir, "pillion")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/pillion-proxy/pillion/cmd/pillion").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
}

// measure runs the interleaved rounds.
func measure(o options, pairs []*pair) (*report, error) {
	rep := &report{Connections: o.conns, AnswerBytes: o.size}
	for _, p := range pairs {
		rep.Results = append(rep.Results, &result{Name: p.name})
		if _, err := measureRound(o, p, time.Second); err != nil { // links are made, heaps grow
			return nil, fmt.Errorf("%s: warm-up: %w", p.name, err)
		}
	}
	if err := rounds(o, pairs, rep); err != nil {
		return nil, err
	}
	if o.smoke && rep.Ratio >= 1 { // a busy machine gets a second chance; the median is then of all
		fmt.Fprintf(os.Stderr, "ratio %.2f after %d rounds: as many again\n", rep.Ratio, o.rounds)
		if err := rounds(o, pairs, rep); err != nil {
			return nil, err
		}
	}
	return rep, nil
}

// rounds runs -rounds rounds of all pairs, in turns.
func rounds(o options, pairs []*pair, rep *report) error {
	for i := range o.rounds {
		order := slices.Clone(pairs)
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, p := range order {
			x, err := measureRound(o, p, o.round)
			if err != nil {
				return fmt.Errorf("%s: round %d: %w", p.name, i+1, err)
			}
			rep.named(p.name).add(x)
			fmt.Fprintf(os.Stderr, "round %d/%d  %-8s %6.1f µs CPU per request, %.0f requests/s\n", i+1, o.rounds, p.name, x.CPUPerRequest, x.RequestsPerS)
		}
	}
	rep.compare()
	return nil
}

// measureRound loads one pair for d.
func measureRound(o options, p *pair, d time.Duration) (round, error) {
	l := &load{addr: p.addr, conns: o.conns, request: request(p.addr)}
	before, err := p.cpu()
	if err != nil {
		return round{}, err
	}
	res, err := l.run(d)
	if err != nil {
		return round{}, err
	}
	after, err := p.cpu()
	if err != nil {
		return round{}, err
	}
	return newRound(res, after-before), nil
}

// request is what a small HTTP client sends.
func request(addr netip.AddrPort) []byte {
	return fmt.Appendf(nil, "GET /floor HTTP/1.1\r\nHost: %v\r\nUser-Agent: floor/1\r\nAccept: */*\r\n\r\n", addr)
}

// write prints the table, and the JSON where it is asked for.
func write(o options, rep *report) error {
	if o.json != "" {
		data, err := json.MarshalIndent(rep, "", "  ")
		if err != nil {
			return err
		}
		data = append(data, '\n')
		if o.json == "-" {
			_, err := os.Stdout.Write(data)
			return err
		}
		if err := os.WriteFile(o.json, data, 0o644); err != nil {
			return err
		}
	}
	return rep.print(os.Stdout)
}
