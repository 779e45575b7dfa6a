package peers

import _ "embed"

//go:embed haproxy.cfg
var haproxyConfig string

// haproxySide is a side with the choice between the three ways to run HAProxy.
func haproxy(name, about, config string, aware bool) Peer {
	return Peer{
		Name: name, About: about, Package: []string{"haproxy"}, Binary: "haproxy", Field: true, Aware: aware,
		version: []string{"-v"},
		command: func(s side) ([]string, error) {
			path, err := s.write("haproxy.cfg", config+haproxyConfig)
			return []string{s.binary, "-db", "-f", path}, err
		},
	}
}

func haproxyH1() Peer {
	p := haproxy("haproxy-h1", "HAProxy, HTTP/1.1 over mutual TLS between", `{{$link := "http/1.1"}}`, true)
	p.Cannot = map[Kind]string{TCP: "the row of haproxy-tcp", UDP: noUDP}
	return p
}

func haproxyH2() Peer {
	p := haproxy("haproxy-h2", "HAProxy, HTTP/2 over mutual TLS between", `{{$link := "h2"}}`, true)
	p.Cannot = map[Kind]string{TCP: "the row of haproxy-tcp", UDP: noUDP}
	return p
}

func haproxyTCP() Peer {
	p := haproxy("haproxy-tcp", "HAProxy, each connection a mutual TLS connection of its own", `{{$link := "tcp"}}`, false)
	p.Cannot = map[Kind]string{UDP: noUDP}
	return p
}
