package peers

import _ "embed"

//go:embed pillion.yaml
var pillionConfig string

func pillion() Peer { return pillionNamed("pillion", "HTTP/2 over mutual TLS between") }

// pillionQUIC is pillion with links over QUIC: what the other transport costs.
func pillionQUIC() Peer {
	return pillionOver("pillion-quic", "pillion", "HTTP/3 over QUIC between", "quic")
}

// Before is another build of pillion, to see what a change has done.
func Before() Peer { return pillionNamed("before", "another build of pillion") }

// BeforeQUIC is that build with links over QUIC.
func BeforeQUIC() Peer {
	return pillionOver("before-quic", "before", "another build of pillion, over QUIC", "quic")
}

// pillionNamed is a build of pillion, whose program has the same name.
func pillionNamed(name, about string) Peer { return pillionOver(name, name, about, "") }

// pillionOver is one whose links run over a transport; if empty, what it chooses.
func pillionOver(name, binary, about, transport string) Peer {
	return Peer{
		Name: name, About: about, Binary: binary, Aware: true,
		version: []string{"version"},
		command: func(s side) ([]string, error) {
			s.Transport = transport
			path, err := s.write("pillion.yaml", pillionConfig)
			return []string{s.binary, "run", "-c", path}, err
		},
	}
}
