package peers

// bareQUIC is what links over QUIC are compared with.
func bareQUIC() Peer {
	const noMore = "it would repeat the row of TCP"
	return Peer{
		Name: "bare-quic", About: "quic-go and nothing else, a stream for each connection", Binary: "barequic",
		Cannot: map[Kind]string{UDP: noUDP, Unix: "it has none", WebSocket: noMore, H2C: noMore},
		command: func(s side) ([]string, error) {
			role := "far"
			if s.Near {
				role = "near"
			}
			return []string{s.binary, "-side", role, "-listen", s.Listen, "-next", s.Next, "-cert", s.Cert(), "-key", s.Key(), "-roots", s.Roots()}, nil
		},
	}
}
