package peers

import _ "embed"

//go:embed nghttpx.conf
var nghttpxConfig string

func nghttpx() Peer {
	return Peer{
		Name: "nghttpx", About: "nghttpx, HTTP/2 over mutual TLS between",
		Package: []string{"nghttp2-proxy"}, Binary: "nghttpx", Field: true, Aware: true,
		Cannot:  map[Kind]string{TCP: "it speaks HTTP only", UDP: noUDP},
		version: []string{"--version"},
		command: func(s side) ([]string, error) {
			path, err := s.write("nghttpx.conf", nghttpxConfig)
			return []string{s.binary, "--conf=" + path}, err
		},
	}
}
