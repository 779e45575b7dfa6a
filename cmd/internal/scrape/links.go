package scrape

import (
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy"
)

// linkKey tells apart what links are summed by: their number is bounded by that of peers, and they come and go.
type linkKey struct{ direction, peer, transport string }

// linkSum is what the links of one key are together.
type linkSum struct {
	n, streams, suspect, draining, mtu int
	rtt                                float64
	window, lost, in, out              uint64
	stalls                             admin.Stalls
}

func (s *linkSum) add(l *admin.Link) {
	s.n++
	s.streams += l.Streams
	s.rtt = max(s.rtt, l.RTT)
	s.lost += l.Lost
	s.in += l.BytesIn
	s.out += l.BytesOut
	if l.Window > 0 && (s.window == 0 || l.Window < s.window) {
		s.window = l.Window
	}
	if l.MTU > 0 && (s.mtu == 0 || l.MTU < s.mtu) {
		s.mtu = l.MTU
	}
	if l.Suspect {
		s.suspect++
	}
	if l.Draining {
		s.draining++
	}
	if x := l.Stalls; x != nil {
		s.stalls.Stream += x.Stream
		s.stalls.Conn += x.Conn
		s.stalls.Line += x.Line
		s.stalls.StreamSeconds += x.StreamSeconds
		s.stalls.ConnSeconds += x.ConnSeconds
		s.stalls.LineSeconds += x.LineSeconds
		s.stalls.QUIC += x.QUIC
		s.stalls.QUICSeconds += x.QUICSeconds
	}
}

func links(gauge gauges, all []admin.Link) {
	sums := make(map[linkKey]*linkSum)
	for i := range all {
		l := &all[i]
		k := linkKey{string(l.Direction), l.Identity, l.Transport}
		if sums[k] == nil {
			sums[k] = new(linkSum)
		}
		sums[k].add(l)
	}
	for k, s := range sums {
		s.send(gauge, k)
	}
}

// send sends the figures. Sums over the open links go down when one ends, so that none of them is a counter.
func (s *linkSum) send(gauge gauges, k linkKey) {
	labels := []string{"direction", k.direction, "peer", k.peer, "transport", k.transport}
	gauge("links", "Open links.", float64(s.n), labels...)
	gauge("link_streams", "Streams that are open on them.", float64(s.streams), labels...)
	gauge("link_bytes", "Bytes that the open links have carried.", float64(s.in), append(labels, "way", "in")...)
	gauge("link_bytes", "Bytes that the open links have carried.", float64(s.out), append(labels, "way", "out")...)
	gauge("link_rtt_seconds", "Round trip time, of the slowest of them; 0 if it was not measured.", s.rtt, labels...)
	gauge("links_suspect", "Links whose path does not answer.", float64(s.suspect), labels...)
	gauge("links_draining", "Links that take no more streams.", float64(s.draining), labels...)
	gauge("link_packets_lost", "Packets that the open links have lost, over TCP segments that were sent again.", float64(s.lost), labels...)
	if s.window > 0 {
		gauge("link_congestion_window_bytes", "The congestion window, of the link that has the smallest.", float64(s.window), labels...)
	}
	if s.mtu > 0 {
		gauge("link_mtu_bytes", "The size of a packet, of the link that has the smallest.", float64(s.mtu), labels...)
	}
	causes := []cause{{"stream_window", s.stalls.Stream, s.stalls.StreamSeconds}, {"link_window", s.stalls.Conn, s.stalls.ConnSeconds}, {"head_of_line", s.stalls.Line, s.stalls.LineSeconds}}
	if k.transport == string(proxy.QUIC) {
		causes = []cause{{"quic", s.stalls.QUIC, s.stalls.QUICSeconds}}
	}
	for _, x := range causes {
		const times = "How often something that was to be sent on the open links had to wait: for the window of its stream, all of them for that of the whole link, or behind bytes that the network has not taken (head of line); over QUIC, for any of these."
		gauge("link_stalls", times, float64(x.n), append(labels, "cause", x.name)...)
		gauge("link_stalled_seconds", "For how long in all.", x.seconds, append(labels, "cause", x.name)...)
	}
}

// cause is why something waited, how often, and for how long in all.
type cause struct {
	name    string
	n       uint64
	seconds float64
}
