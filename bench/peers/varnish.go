package peers

import "strings"

// varnish has a cache and no TLS to the next hop: it takes part only where the next hop is not asked.
func varnish() Peer {
	const other = "only what its cache answers is compared: it has no authenticated link"
	return Peer{
		Name: "varnish", About: "Varnish, HTTP/1.1 in the clear between: only what the first one has in its cache",
		Package: []string{"varnish"}, Binary: "varnishd", Field: true, Aware: true,
		Cannot:  map[Kind]string{HTTP: other, H2C: other, TCP: other, UDP: noUDP, Unix: other, WebSocket: other},
		version: []string{"-V"},
		command: func(s side) ([]string, error) {
			// One pool of threads, as the others have one worker; the usual two cost more where two cores are shared.
			return []string{s.binary, "-F", "-n", s.Dir + "/varnish", "-a", s.Listen, "-b", strings.TrimPrefix(s.Next, "http://"),
				"-s", "malloc,64m", "-p", "thread_pools=1", "-p", "timeout_idle=120"}, nil
		},
	}
}
