// Package split sends shares of a service's requests to other services, as a canary release wants it: each request by chance, or, where it sticks,
// by a hash of something that stays the same, so that who got the new version gets it again, from every sidecar, and keeps it while its share grows.
//
// It decides before anything is sent: all attempts of a request go to the same service. The settings are those of the service that was called.
package split

import (
	"math/rand/v2"

	"github.com/pillion-proxy/pillion/proxy"
)

// Share is a part of the requests, from 0 to 1, and where it goes.
type Share struct {
	To   proxy.Service // Port 0 is the port that the request is for
	Part float64
}

// Split is the shares of one service, or of one of its routes. What they leave goes where it would go without. The zero value sends nothing elsewhere. It is not
// changed once it is in use.
type Split struct {
	Shares []Share
	// Stick, if not zero, is what decides; a request that has nothing there goes by chance.
	Stick proxy.Key
}

// Any reports whether the Split does anything.
func (s Split) Any() bool { return len(s.Shares) > 0 }

// Choose returns where req goes; zero is where it would go without. It allocates nothing.
func (s *Split) Choose(req *proxy.Request) proxy.Service {
	h, ok := s.Stick.Of(req)
	if !ok {
		h = rand.Uint64()
	}
	x := float64(h>>11) / (1 << 53)
	for i := range s.Shares {
		if x -= s.Shares[i].Part; x < 0 {
			to := s.Shares[i].To
			if to.Port == 0 {
				to.Port = req.Service.Port
			}
			req.Note("split", "the share of another service", int64(i+1))
			return to
		}
	}
	return proxy.Service{}
}

// Layer chooses for the service's requests to which none of its routes applies; for the others the route does.
func (s *Split) Layer(next proxy.RoundTripper) proxy.RoundTripper {
	return proxy.Before(s.apply).Layer(next)
}

func (s *Split) apply(req *proxy.Request) error {
	if req.Rule == 0 && req.Backend.Name == "" {
		req.Backend = s.Choose(req)
	}
	return nil
}
