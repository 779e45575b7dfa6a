package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	engine "github.com/pillion-proxy/pillion/bench/load"
	benchreport "github.com/pillion-proxy/pillion/bench/report"
)

// benchFlags are the command line.
type benchFlags struct {
	direct, via, host string
	proxy             bool
	protocol          string
	rate              float64
	concurrency       int
	connections       int
	size              int
	duration, warmup  time.Duration
	rounds, threads   int
	pids              []int
	report            string
	out               format
}

func (f *benchFlags) add(c *cobra.Command) {
	protocols := make([]string, 0, len(engine.Protocols()))
	for _, p := range engine.Protocols() {
		protocols = append(protocols, string(p))
	}
	fl := c.Flags()
	fl.StringVar(&f.direct, "direct", "", "the app: http://host:port/path, host:port for tcp, or unix:/path of its socket")
	fl.StringVar(&f.via, "via", "", "the same app through the proxy, in the same form")
	fl.StringVar(&f.host, "host", "", "the Host of requests on both ways (default: that of each URL)")
	fl.BoolVar(&f.proxy, "proxy", false, "--via is an HTTP proxy: ask it for the URL of --direct, or of --host")
	fl.StringVar(&f.protocol, "protocol", "http1", strings.Join(protocols, ", "))
	fl.Float64Var(&f.rate, "rate", 0, "requests per second, an open loop (default 2000 for the own pair, 500 with new-conn; 100 for --direct and --via)")
	fl.IntVar(&f.concurrency, "concurrency", 0, "requests always under way, a closed loop")
	fl.IntVar(&f.connections, "connections", 0, "connections (default: as many as --concurrency, 32 with --rate; 8 and 4 for h2c and grpc)")
	fl.IntVar(&f.size, "size", 0, "bytes of an answer of the own app, of a tcp, udp or grpc message (default 1024; 16 MiB for http-bulk)")
	fl.DurationVar(&f.duration, "duration", 3*time.Second, "length of the measurement of each side in each round")
	fl.DurationVar(&f.warmup, "warmup", 500*time.Millisecond, "load before each measurement that is not counted")
	fl.IntVar(&f.rounds, "rounds", 5, "rounds, in each of which both sides are measured")
	fl.IntVar(&f.threads, "threads", 1, "threads of the load generator")
	fl.IntSliceVar(&f.pids, "pid", nil, "process of the proxy, whose processor time and memory are read, its children's included; repeatable")
	fl.StringVar(&f.report, "report", "", "also write one self-contained HTML file")
	f.out.add(c)
	_ = c.RegisterFlagCompletionFunc("protocol", cobra.FixedCompletions(protocols, cobra.ShellCompDirectiveNoFileComp)) // the flag exists
}

// benchPlan is what is to be measured.
type benchPlan struct {
	own         bool // start a pair of sidecars and an app
	direct, via benchTarget
	load        engine.Config // but for the target
	size        int           // of the own app's answers
	concurrency int           // of a closed loop
	rounds      int
	pids        []int
}

// benchTarget is one way to the app.
type benchTarget struct {
	name             string // for people
	addr, host, path string
	proxy            bool
}

// The defaults that depend on others.
const (
	ownRate     = 2000 // requests/s: light for two cores, and enough for p99 in every round
	ownConnRate = 500  // connections/s
	politeRate  = 100  // requests/s: somebody's service is not to be stormed unasked
	maxRounds   = 1000
)

// plan checks the flags, of which changed tells those that were given, and fills in what depends on others.
func (f *benchFlags) plan(changed func(string) bool) (*benchPlan, error) {
	p := &benchPlan{rounds: f.rounds, pids: f.pids, own: f.direct == "" && f.via == ""}
	protocol := engine.Protocol(f.protocol)
	switch {
	case !slices.Contains(engine.Protocols(), protocol):
		return nil, fmt.Errorf("--protocol %s is none of %v", f.protocol, engine.Protocols())
	case (f.direct == "") != (f.via == ""):
		return nil, errors.New("name both --direct and --via to measure a proxy, or neither to measure a pair of pillions")
	case p.own && (f.proxy || f.host != "" || len(f.pids) > 0):
		return nil, errors.New("--host, --proxy and --pid belong to --direct and --via")
	case changed("rate") && changed("concurrency"):
		return nil, errors.New("choose --rate (an open loop) or --concurrency (a closed loop)")
	case changed("rate") && !(f.rate > 0 && f.rate <= 1e7):
		return nil, fmt.Errorf("--rate %v is no number of requests per second; write one above 0, as in 500", f.rate)
	case changed("concurrency") && f.concurrency < 1 || f.connections < 0 || f.size < 0 || f.rounds < 1 || f.rounds > maxRounds || f.duration <= 0 || f.warmup < 0 || f.threads < 1:
		return nil, fmt.Errorf("--concurrency, --duration, --threads and --rounds must be positive (rounds at most %d), --connections, --size and --warmup not negative", maxRounds)
	case changed("size") && !p.own && !sizedProtocol(protocol):
		return nil, errors.New("--size is what the own app answers, or what a tcp, udp, websocket or grpc request carries; the answers of --direct are its own affair")
	case f.proxy && protocol != engine.HTTP1 && protocol != engine.HTTPBulk && protocol != engine.NewConn:
		return nil, fmt.Errorf("--proxy is for HTTP/1.1, and --protocol is %s", protocol)
	case slices.ContainsFunc(f.pids, func(pid int) bool { return pid < 1 }):
		return nil, errors.New("--pid must be the number of a process")
	}
	if err := p.choose(f, protocol); err != nil {
		return nil, err
	}
	if p.own {
		return p, nil
	}
	var err error
	if p.direct, err = benchURL("--direct", f.direct, protocol, f.host); err != nil {
		return nil, err
	}
	if p.via, err = benchURL("--via", f.via, protocol, f.host); err != nil {
		return nil, err
	}
	if p.via.path == "" || p.via.path == "/" {
		p.via.path = p.direct.path
	}
	if f.proxy && f.host == "" && strings.HasPrefix(p.direct.addr, "unix:") {
		return nil, errors.New("--proxy needs --host, because --direct is a socket and names none")
	}
	if f.proxy {
		p.via.proxy, p.via.host = true, cmp.Or(f.host, p.direct.addr)
	}
	return p, nil
}

// choose settles how much load there is.
func (p *benchPlan) choose(f *benchFlags, protocol engine.Protocol) error {
	c := &p.load
	*c = engine.Config{Protocol: protocol, Duration: f.duration, Warmup: f.warmup, Threads: f.threads, Size: f.size, Rate: f.rate}
	p.size = cmp.Or(f.size, 1024)
	bulk := protocol == engine.TCPBulk || protocol == engine.HTTPBulk
	if protocol == engine.HTTPBulk {
		p.size = cmp.Or(f.size, 16<<20)
	}
	if bulk && f.rate > 0 {
		return fmt.Errorf("%s is measured in a closed loop; say --concurrency instead of --rate", protocol)
	}
	if sizedProtocol(protocol) {
		c.Size = p.size
	}
	p.concurrency = f.concurrency
	switch {
	case bulk:
		p.concurrency = cmp.Or(f.concurrency, 1)
	case f.rate == 0 && f.concurrency == 0 && !p.own:
		c.Rate = politeRate
	case f.rate == 0 && f.concurrency == 0 && protocol == engine.NewConn:
		c.Rate = ownConnRate
	case f.rate == 0 && f.concurrency == 0:
		c.Rate = ownRate
	}
	c.Conns, c.Streams = f.connections, 1
	multiplexed := protocol == engine.H2C || protocol == engine.GRPC
	switch {
	case multiplexed && c.Rate > 0:
		c.Conns, c.Streams = cmp.Or(f.connections, 4), 100
	case multiplexed:
		c.Conns = min(cmp.Or(f.connections, 8), p.concurrency)
		c.Streams = (p.concurrency + c.Conns - 1) / c.Conns
		p.concurrency = c.Conns * c.Streams
	case c.Rate > 0:
		c.Conns = cmp.Or(f.connections, 32)
	case f.connections > 0 && f.connections != p.concurrency:
		return fmt.Errorf("with %s every connection carries one request at a time: leave --connections away, or give it the value of --concurrency", protocol)
	default:
		c.Conns = p.concurrency
	}
	if p.own {
		if err := ownSize(protocol, p.size); err != nil {
			return err
		}
	}
	// A percentile of an interval needs some answers in it.
	c.Interval = max(100*time.Millisecond, f.duration/40)
	if c.Rate > 0 {
		c.Interval = min(max(c.Interval, time.Duration(25/c.Rate*float64(time.Second))), f.duration)
	}
	return c.Check()
}

// describe is the plan for the report.
func (p *benchPlan) describe() benchreport.Load {
	l := benchreport.Load{
		Protocol: string(p.load.Protocol), Rate: p.load.Rate, Connections: p.load.Conns, Streams: p.load.Streams,
		Seconds: p.load.Duration.Seconds(), Rounds: p.rounds,
	}
	if p.load.Rate == 0 {
		l.Concurrency = p.concurrency
	}
	if sizedProtocol(p.load.Protocol) || p.own && p.load.Protocol != engine.TCPBulk {
		l.Size = p.size
	}
	return l
}

// sizedProtocol reports whether its requests carry as many bytes as --size says.
func sizedProtocol(p engine.Protocol) bool {
	return p == engine.TCPEcho || p == engine.WebSocket || p == engine.UDPEcho || p == engine.UDPFlows || p == engine.GRPC
}

// rawProtocol reports whether its target is an address and no URL.
func rawProtocol(p engine.Protocol) bool {
	return p == engine.TCPEcho || p == engine.TCPBulk || p == engine.UDPEcho || p == engine.UDPFlows
}

// benchURL reads a target.
func benchURL(flag, text string, protocol engine.Protocol, host string) (benchTarget, error) {
	raw := rawProtocol(protocol)
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || protocol == engine.UDPEcho || protocol == engine.UDPFlows {
			return benchTarget{}, fmt.Errorf("%s %s is no socket for %s; write an absolute path, as in unix:/run/app.sock, and no protocol of datagrams", flag, text, protocol)
		}
		return benchTarget{name: text, addr: text, host: host}, nil
	}
	want := "http://127.0.0.1:8080/"
	if raw {
		want = "127.0.0.1:8080"
		text = strings.TrimPrefix(strings.TrimPrefix(text, "tcp://"), "udp://")
		h, port, err := net.SplitHostPort(text)
		if err != nil || h == "" || port == "" || strings.Contains(text, "/") {
			return benchTarget{}, fmt.Errorf("%s %s is no address; write it as in %s", flag, text, want)
		}
		return benchTarget{name: text, addr: text}, nil
	}
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return benchTarget{}, fmt.Errorf("%s %s is no URL; write it as in %s", flag, text, want)
	}
	if u.Scheme == "https" {
		return benchTarget{}, fmt.Errorf("%s %s: TLS is not measured; give the plain address that an app beside the proxy would use", flag, text)
	}
	if u.Scheme != "http" || u.User != nil {
		return benchTarget{}, fmt.Errorf("%s %s is no plain http URL; write it as in %s", flag, text, want)
	}
	addr := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
	path := u.EscapedPath()
	if protocol != engine.GRPC || path == "/" { // whose default is a method
		path = cmp.Or(path, "/")
	}
	if u.RawQuery != "" {
		path = cmp.Or(path, "/") + "?" + u.RawQuery
	}
	return benchTarget{name: u.Redacted(), addr: addr, host: cmp.Or(host, u.Host), path: path}, nil
}
