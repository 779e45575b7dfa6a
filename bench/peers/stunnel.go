package peers

import _ "embed"

//go:embed stunnel.conf
var stunnelConfig string

func stunnel() Peer {
	return Peer{
		Name: "stunnel", About: "stunnel, each connection a mutual TLS connection of its own",
		Package: []string{"stunnel4"}, Binary: "stunnel", Field: true,
		Cannot:  map[Kind]string{UDP: noUDP, Unix: "its configuration here has none"},
		version: []string{"-version"},
		command: func(s side) ([]string, error) {
			path, err := s.write("stunnel.conf", stunnelConfig)
			return []string{s.binary, path}, err
		},
	}
}
