package peers

func naiveGo() Peer {
	return Peer{
		Name: "naive-go", About: "httputil.ReverseProxy and HTTP/2 over mutual TLS between, io.Copy for TCP", Binary: "naivego", Aware: true,
		Cannot:  map[Kind]string{UDP: noUDP, Unix: "it has none", WebSocket: "httputil.ReverseProxy opens none over HTTP/2"},
		command: reference("tcp", ""),
	}
}

// naiveQUIC is the same over QUIC.
func naiveQUIC() Peer {
	return Peer{
		Name: "naive-quic", About: "httputil.ReverseProxy and HTTP/3 of quic-go over QUIC between", Binary: "naivego", Aware: true,
		Cannot: map[Kind]string{
			UDP: noUDP, Unix: "it has none", TCP: "bare-quic has that", H2C: quicToo, WebSocket: "httputil.ReverseProxy opens none over HTTP/3",
		},
		command: reference("quic", ""),
	}
}

// reference is the command of a pair of this repository, with over between its sides. If kind is not empty, that is what it takes everything for.
func reference(over string, kind Kind) func(side) ([]string, error) {
	return func(s side) ([]string, error) {
		role := "far"
		if s.Near {
			role = "near"
		}
		if kind != "" {
			s.Kind = kind
		}
		return []string{
			s.binary, "-side", role, "-kind", string(s.Kind), "-over", over, "-listen", s.Listen, "-next", s.Next,
			"-cert", s.Cert(), "-key", s.Key(), "-roots", s.Roots(),
		}, nil
	}
}
