package peers

func naiveGo() Peer {
	return Peer{
		Name: "naive-go", About: "httputil.ReverseProxy and HTTP/2 over mutual TLS between, io.Copy for TCP", Binary: "naivego", Aware: true,
		Cannot: map[Kind]string{UDP: noUDP, Unix: "it has none", WebSocket: "httputil.ReverseProxy opens none over HTTP/2"},
		command: func(s side) ([]string, error) {
			role := "far"
			if s.Near {
				role = "near"
			}
			return []string{
				s.binary, "-side", role, "-kind", string(s.Kind), "-listen", s.Listen, "-next", s.Next,
				"-cert", s.Cert(), "-key", s.Key(), "-roots", s.Roots(),
			}, nil
		},
	}
}
