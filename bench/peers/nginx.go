package peers

import _ "embed"

//go:embed nginx.conf
var nginxConfig string

func nginx() Peer {
	return Peer{
		Name: "nginx", About: "nginx: HTTP/1.1 over mutual TLS between, gRPC's HTTP/2 for h2c, its stream module for TCP",
		Package: []string{"nginx", "libnginx-mod-stream"}, Binary: "nginx", Field: true, Aware: true,
		Cannot:  map[Kind]string{UDP: noUDP},
		version: []string{"-v"},
		command: func(s side) ([]string, error) {
			path, err := s.write("nginx.conf", nginxConfig)
			return []string{s.binary, "-p", s.Dir, "-c", path}, err
		},
	}
}
