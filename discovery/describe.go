package discovery

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/pillion-proxy/pillion/proxy"
)

// Labels are what a registry says of an Endpoint beside its address, as text. What is "" is not said.
type Labels struct {
	Identity  string // a SPIFFE ID
	Mesh      string // "true" or "false"
	Transport string // "auto", "tcp" or "quic"
	Weight    string // a whole number from 1 to MaxWeight
	Zone      string
	// More is what else it says, for Endpoint.Labels; see LabelsOf.
	More map[string]string
}

// MaxWeight bounds the weight of an Endpoint.
const MaxWeight = 1 << 20

// Described makes an Endpoint of an address and what a registry says of it; port 0 means the default. A registry may add protection and
// not take it away: where a sidecar is expected, an Endpoint without one is an error, and so is another identity than one that is Pinned.
func (d Defaults) Described(addr netip.AddrPort, say Labels) (proxy.Endpoint, error) {
	switch say.Mesh {
	case "", "true":
		d.Mesh = d.Mesh || say.Mesh == "true"
	case "false":
		if d.Mesh {
			return proxy.Endpoint{}, fmt.Errorf("endpoint %v: it has no sidecar, and would be called without encryption: say mesh: false of the service if that is meant", addr)
		}
	default:
		return proxy.Endpoint{}, fmt.Errorf("endpoint %v: mesh: %q is neither true nor false", addr, clip(say.Mesh))
	}
	if say.Zone != "" {
		d.Zone = say.Zone
	}
	var err error
	if d.Identity, err = d.identity(say.Identity); err != nil {
		return proxy.Endpoint{}, fmt.Errorf("endpoint %v: %w", addr, err)
	}
	switch t := proxy.Transport(say.Transport); t {
	case "":
	case proxy.Auto, proxy.TCP, proxy.QUIC:
		d.Transport = t
	default:
		return proxy.Endpoint{}, fmt.Errorf("endpoint %v: transport: %q is neither auto nor tcp nor quic", addr, clip(say.Transport))
	}
	e := d.Endpoint(addr)
	e.Labels = LabelsOf(say.More)
	if say.Weight != "" {
		if e.Weight, err = strconv.Atoi(say.Weight); err != nil || e.Weight < 1 || e.Weight > MaxWeight {
			return proxy.Endpoint{}, fmt.Errorf("endpoint %v: weight: %q is not a whole number from 1 to %d", addr, clip(say.Weight), MaxWeight)
		}
	}
	return e, Check(&e)
}

// maxLabel bounds the names and the values of labels.
const maxLabel = 128 // bytes

// LabelsOf makes what Endpoint.Labels holds of what a source says. What cannot be a label, because it has a comma or is longer than 128 bytes, is left out: it
// may be anybody's.
func LabelsOf(more map[string]string) string {
	if len(more) == 0 {
		return ""
	}
	all := make(map[string]string, len(more))
	for name, value := range more {
		if name != "" && len(name) <= maxLabel && len(value) <= maxLabel && !strings.ContainsAny(name, ",=") && !strings.Contains(value, ",") {
			all[name] = value
		}
	}
	return proxy.Labels(all)
}

// identity returns whom to expect.
func (d Defaults) identity(said string) (proxy.Identity, error) {
	if said == "" {
		return d.Identity, nil
	}
	id, err := proxy.ParseIdentity(said)
	switch {
	case err != nil:
		return "", fmt.Errorf("identity: %w", err)
	case d.Pinned && id != d.Identity:
		return "", fmt.Errorf("identity: it is said to be %s, and the configuration wants %s", id, d.Identity)
	}
	return id, nil
}

// clip bounds text of a registry in a message.
func clip(s string) string {
	const most = 100 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
