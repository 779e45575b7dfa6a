package peers

const quicToo = "it would repeat the row of TCP"

// bareQUIC is what links over QUIC are compared with where bytes are carried.
func bareQUIC() Peer {
	return Peer{
		Name: "bare-quic", About: "quic-go and nothing else, a stream for each connection", Binary: "barequic",
		Cannot:  map[Kind]string{UDP: noUDP, Unix: "it has none", WebSocket: quicToo, H2C: quicToo},
		command: reference("quic", TCP),
	}
}

// bareRequests is what they are compared with where requests are.
func bareRequests() Peer {
	return Peer{
		Name: "bare-quic-requests", About: "quic-go and the framing of HTTP/1.1, a stream for each request", Binary: "barequic",
		Cannot: map[Kind]string{
			UDP: noUDP, Unix: "it has none", TCP: "bare-quic has that", H2C: "it understands HTTP/1.1 only", WebSocket: "it knows no Upgrade",
		},
		command: reference("quic", ""),
	}
}
