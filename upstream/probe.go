package upstream

import (
	"math/rand/v2"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// How long a prober waits before it tries again: doubled each time, with half of it random.
const (
	firstProbe = 100 * time.Millisecond
	lastProbe  = 10 * time.Second
)

// probeTimeout bounds one try.
const probeTimeout = 5 * time.Second

// probeIdle is how long after a Service's last request its lost Endpoints are still probed. After that a request tries one.
const probeIdle = 5 * time.Minute

// prober finds out when a lost Endpoint can be reached again, so that no request has to.
type prober struct {
	sh  *shardState
	svc *service
	ep  *proxy.Endpoint
	h   *health.Endpoint
	to  proxy.Service
}

// probe starts a prober, if there is none and room for one.
func (sh *shardState) probe(svc *service, req *proxy.Request, h *health.Endpoint) {
	if h.Probe() {
		p := &prober{sh: sh, svc: svc, ep: req.Endpoint, h: h, to: req.Service}
		sh.shard.Go(p.run)
	}
}

// run is a task. It connects to the Endpoint, and through a sidecar to the app.
func (p *prober) run() {
	s := p.sh.shard
	defer func() { p.h.EndProbe(s.Now()) }()
	how := Check{Kind: CheckTCP, Timeout: probeTimeout}
	for pause := firstProbe; ; pause = min(2*pause, lastProbe) {
		s.Sleep(pause/2 + rand.N(pause/2))
		if !p.svc.known.health.Known(p.h) || s.Now().Sub(p.picked()) > probeIdle {
			return
		}
		why := p.svc.u.ask(s, p.ep, p.to, &how)
		if why == "" {
			p.h.Reached(s.Now())
			return
		}
		p.h.Lost(s.Now(), why)
	}
}

func (p *prober) picked() task.Instant {
	p.sh.shard.Lock()
	defer p.sh.shard.Unlock()
	return p.sh.picked
}
