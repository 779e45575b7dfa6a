package peers

import _ "embed"

//go:embed pillion.yaml
var pillionConfig string

func pillion() Peer {
	return Peer{
		Name: "pillion", About: "HTTP/2 over mutual TLS between", Binary: "pillion", Aware: true,
		version: []string{"version"},
		command: func(s side) ([]string, error) {
			path, err := s.write("pillion.yaml", pillionConfig)
			return []string{s.binary, "run", "-c", path}, err
		},
	}
}
