package config

import "os"

// checkPeer finds the folder of traces, and gives every service its transport.
func (d *decoder) checkPeer(c *Config) {
	p := &c.Peer
	uses := p.Transport != OverTCP
	for i := range c.Services {
		s := &c.Services[i]
		key := sub(sub("services", s.Name), "transport")
		switch n := d.places[key]; {
		case n == nil:
			s.Transport = p.Transport
			if !s.Mesh {
				s.Transport = ""
			}
		case !s.Mesh:
			d.report(n, key, "only links between sidecars have a transport; remove this line, or mesh: false")
		}
		uses = uses || s.Transport == OverQUIC || s.Transport == AutoTransport
	}
	const qlog = "peer.qlog"
	n := d.places[qlog]
	if n != nil && !d.bad[qlog] {
		p.QLog = join(d.dir, p.QLog)
		if st, err := os.Stat(p.QLog); err != nil || !st.IsDir() {
			d.report(n, qlog, "%s is no folder; make it, or write the path of one", p.QLog)
		}
	}
	for _, key := range []string{qlog, "peer.early_data"} {
		if d.says(key) && !uses {
			d.warn(c, key, "has no effect: nothing here uses QUIC")
		}
	}
}
