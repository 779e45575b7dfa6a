package peers

import _ "embed"

//go:embed pillion.yaml
var pillionConfig string

func pillion() Peer { return pillionNamed("pillion", "HTTP/2 over mutual TLS between") }

// Before is another build of pillion, to see what a change has done.
func Before() Peer { return pillionNamed("before", "another build of pillion") }

// pillionNamed is a build of pillion, whose program has the same name.
func pillionNamed(name, about string) Peer {
	return Peer{
		Name: name, About: about, Binary: name, Aware: true,
		version: []string{"version"},
		command: func(s side) ([]string, error) {
			path, err := s.write("pillion.yaml", pillionConfig)
			return []string{s.binary, "run", "-c", path}, err
		},
	}
}
