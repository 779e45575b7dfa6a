package consul

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// instance is one element of an answer of /v1/health/service: what we read of it.
type instance struct {
	Node struct {
		Node     string
		Address  string
		Locality locality
	}
	Service struct {
		ID       string
		Address  string
		Port     int
		Tags     []string
		Meta     map[string]string
		Weights  struct{ Passing int }
		Locality locality
	}
}

type locality struct{ Zone string }

// The keys of metadata that are ours.
const (
	metaOurs      = "pillion-"
	metaIdentity  = "pillion-identity"
	metaMesh      = "pillion-mesh"
	metaTransport = "pillion-transport"
	metaZone      = "pillion-zone"
	metaWeight    = "pillion-weight"
)

// take notes what an answer holds.
func (w *watch) take(all []instance) {
	there := make(map[string]bool, len(all))
	for i := range all {
		key := all[i].Node.Node + "/" + all[i].Service.ID
		there[key] = true
		e, err := all[i].endpoint(&w.query)
		w.entries.Put(key, e, err)
	}
	w.entries.Retain(func(key string) bool { return there[key] })
}

func parse(data []byte) ([]instance, error) {
	var all []instance
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("the answer is no list of instances: %w", err)
	}
	if all == nil {
		return nil, fmt.Errorf("the answer is no list of instances but %q", clip(string(data)))
	}
	for i := range all {
		if all[i].Node.Node == "" || all[i].Service.ID == "" {
			return nil, fmt.Errorf("the answer is no list of instances: number %d has no node or no ID", i+1)
		}
	}
	return all, nil
}

// labels are the tags, of which "version=v2" is one with a value and "v2" is v2=true, and over them the metadata that is not ours.
func (x *instance) labels() map[string]string {
	all := make(map[string]string, len(x.Service.Tags)+len(x.Service.Meta))
	for _, tag := range x.Service.Tags {
		name, value, found := strings.Cut(tag, "=")
		if !found {
			value = "true"
		}
		all[name] = value
	}
	for name, value := range x.Service.Meta {
		if !strings.HasPrefix(name, metaOurs) {
			all[name] = value
		}
	}
	return all
}

func (x *instance) endpoint(q *Query) (proxy.Endpoint, error) {
	s := &x.Service
	address := s.Address
	if address == "" {
		address = x.Node.Address
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return proxy.Endpoint{}, fmt.Errorf("%q is no IP address", clip(address))
	}
	if s.Port < 0 || s.Port > 65535 {
		return proxy.Endpoint{}, fmt.Errorf("%d is no port", s.Port)
	}
	port := uint16(s.Port)
	if q.Port != 0 {
		port = q.Port
	}
	say := discovery.Labels{Identity: s.Meta[metaIdentity], Mesh: s.Meta[metaMesh], Transport: s.Meta[metaTransport], Zone: s.Meta[metaZone], Weight: s.Meta[metaWeight], More: x.labels()}
	for _, l := range []locality{s.Locality, x.Node.Locality} {
		if say.Zone == "" {
			say.Zone = l.Zone
		}
	}
	if say.Weight == "" && s.Weights.Passing > 1 {
		say.Weight = strconv.Itoa(s.Weights.Passing)
	}
	return q.Defaults.Described(netip.AddrPortFrom(ip, port), say)
}
