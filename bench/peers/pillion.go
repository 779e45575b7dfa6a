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

// Layers says how much pillion does to keep calls going.
type Layers string

// The values of Layers.
const (
	usual Layers = ""     // what it does by itself
	none  Layers = "none" // nothing
	all   Layers = "all"  // everything that can be switched on and leaves requests as they are
)

// Resilience are pillion without and with all that it can do to keep calls going, to be set beside pillion as it comes.
func Resilience() []Peer {
	return []Peer{
		pillionThat("pillion-bare", "pillion", "no retries, no ejection, no check: round robin", "", none),
		pillionThat("pillion-full", "pillion", "retries, hedging, checks, ejection, deadlines, limits, rates and faults", "", all),
	}
}

// pillionNamed is a build of pillion, whose program has the same name.
func pillionNamed(name, about string) Peer { return pillionOver(name, name, about, "") }

// pillionOver is one whose links run over a transport; if empty, what it chooses.
func pillionOver(name, binary, about, transport string) Peer {
	return pillionThat(name, binary, about, transport, usual)
}

func pillionThat(name, binary, about, transport string, l Layers) Peer {
	return Peer{
		Name: name, About: about, Binary: binary, Aware: true,
		version: []string{"version"},
		command: func(s side) ([]string, error) {
			s.Transport, s.Layers = transport, l
			path, err := s.write("pillion.yaml", pillionConfig)
			return []string{s.binary, "run", "-c", path}, err
		},
	}
}
