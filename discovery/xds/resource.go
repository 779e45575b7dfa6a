package xds

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pillion-proxy/pillion/discovery"
)

// cluster is what we read of an envoy.config.cluster.v3.Cluster.
type cluster struct {
	name       string
	assignment string      // the name of its assignment; "" if it is inline
	inline     *assignment // of the type STATIC
}

// The types of a cluster. https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto#enum-config-cluster-v3-cluster-discoverytype
var clusterTypes = map[uint64]string{0: "STATIC", 1: "STRICT_DNS", 2: "LOGICAL_DNS", 3: "EDS", 4: "ORIGINAL_DST"}

const (
	static = 0
	eds    = 3
)

func parseCluster(b []byte) (*cluster, error) {
	c := new(cluster)
	var kind uint64
	var inline []byte
	err := fields(b, func(x field) error {
		switch x.num {
		case 1:
			c.name = string(x.bytes)
		case 2:
			kind = x.value
		case 3: // EdsClusterConfig
			return fields(x.bytes, func(x field) error {
				if x.num == 2 {
					c.assignment = string(x.bytes)
				}
				return nil
			})
		case 33:
			inline = x.bytes
		case 38:
			kind = math.MaxUint64 // a type of an extension
		}
		return nil
	})
	switch {
	case err != nil:
		return c, err
	case c.name == "":
		return c, errors.New("it has no name")
	case kind == eds:
		if c.assignment == "" {
			c.assignment = c.name
		}
		return c, nil
	case kind == static:
		c.assignment = ""
		c.inline, err = parseAssignment(inline)
		return c, err
	}
	t := clusterTypes[kind]
	if t == "" {
		t = "an extension"
	}
	return c, fmt.Errorf("its type is %s; pillion follows EDS and STATIC", t)
}

// assignment is what we read of an envoy.config.endpoint.v3.ClusterLoadAssignment.
type assignment struct {
	name       string
	localities []locality
}

// empty means that there is nothing to call. A nil assignment is empty.
func (a *assignment) empty() bool {
	return a == nil || !slices.ContainsFunc(a.localities, func(l locality) bool { return l.total > 0 })
}

type locality struct {
	place
	weight   uint32 // 0 if it has none
	priority int
	members  []member
	total    uint64 // of the weights of those that can be used
}

// place is a Locality.
type place struct{ region, zone, subZone string }

type member struct {
	addr   netip.AddrPort
	unix   string
	health uint64
	weight uint32 // 0 if it has none
	say    discovery.Labels
	port   uint16 // in the metadata, 0 if not
}

// The health of an endpoint. https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/health_check.proto#enum-config-core-v3-healthstatus
const (
	unknown  = 0
	healthy  = 1
	degraded = 5
)

// usable is false of endpoints that are UNHEALTHY, DRAINING or TIMEOUT, or whatever comes to be.
func (m *member) usable() bool {
	return m.health == unknown || m.health == healthy || m.health == degraded
}

const maxPriority = 128 // "should range from 0 (highest) to N (lowest) without skipping. At most 128"

func parseAssignment(b []byte) (*assignment, error) {
	a := new(assignment)
	err := fields(b, func(x field) error {
		switch x.num {
		case 1:
			a.name = string(x.bytes)
		case 2:
			l, err := parseLocality(x.bytes)
			a.localities = append(a.localities, l)
			return err
		}
		return nil
	})
	return a, err
}

func parseLocality(b []byte) (locality, error) {
	var l locality
	err := fields(b, func(x field) (err error) {
		switch x.num {
		case 1:
			l.place, err = parsePlace(x.bytes)
		case 2:
			var m member
			m, err = parseMember(x.bytes)
			l.members = append(l.members, m)
		case 3:
			l.weight, err = wrapped(x.bytes)
		case 5:
			if x.value > maxPriority {
				return fmt.Errorf("the priority %d is more than %d", x.value, maxPriority)
			}
			l.priority = int(x.value)
		}
		return err
	})
	for i := range l.members {
		m := &l.members[i]
		if m.usable() {
			l.total += uint64(max(m.weight, 1))
		}
		m.within(l.place)
	}
	return l, err
}

// parsePlace reads a Locality. Its zone is its region if there is none.
func parsePlace(b []byte) (p place, err error) {
	err = fields(b, func(x field) error {
		switch x.num {
		case 1:
			p.region = string(x.bytes)
		case 2:
			p.zone = string(x.bytes)
		case 3:
			p.subZone = string(x.bytes)
		}
		return nil
	})
	if p.zone == "" {
		p.zone = p.region
	}
	return p, err
}

// within makes labels of the place, unless m has some of these names.
func (m *member) within(p place) {
	for name, value := range map[string]string{"region": p.region, "sub_zone": p.subZone} {
		if _, ok := m.say.More[name]; !ok && value != "" {
			_ = m.label(name, value) // returns nil
		}
	}
}

// wrapped reads a google.protobuf.UInt32Value.
func wrapped(b []byte) (v uint32, err error) {
	err = fields(b, func(x field) error {
		if x.num == 1 {
			v = uint32(x.value)
		}
		return nil
	})
	return v, err
}

func parseMember(b []byte) (m member, err error) {
	var address []byte
	err = fields(b, func(x field) (err error) {
		switch x.num {
		case 1: // Endpoint
			return fields(x.bytes, func(x field) error {
				if x.num == 1 {
					address = x.bytes
				}
				return nil
			})
		case 2:
			m.health = x.value
		case 3:
			return m.metadata(x.bytes)
		case 4:
			if m.weight, err = wrapped(x.bytes); err == nil && m.weight == 0 {
				err = errors.New("an endpoint has the weight 0") // "Valid values are 1 to 2^32-1" in effect: the field is validated so
			}
		}
		return err
	})
	if err != nil {
		return m, err
	}
	return m, m.address(address)
}

// address reads an Address.
func (m *member) address(b []byte) error {
	var host, path string
	var port uint64
	other := false
	err := fields(b, func(x field) error {
		switch x.num {
		case 1: // SocketAddress
			return fields(x.bytes, func(x field) error {
				switch x.num {
				case 2:
					host = string(x.bytes)
				case 3:
					port = x.value
				}
				return nil
			})
		case 2: // Pipe
			return fields(x.bytes, func(x field) error {
				if x.num == 1 {
					path = string(x.bytes)
				}
				return nil
			})
		default:
			other = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	if path != "" {
		m.unix = path
		return nil
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" && other:
		return errors.New("an endpoint's address is internal to Envoy")
	case err != nil || ip.Zone() != "":
		return fmt.Errorf("an endpoint's address is %q, which is no IP", clip(host))
	case port > 65535 || port == 0:
		return fmt.Errorf("an endpoint's port is %d", port)
	}
	m.addr = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	return nil
}

// metadata reads, of a Metadata, what is for "pillion", identity, mesh, transport, and the port of the sidecar; and what is for subsets of Envoy's load balancer,
// which are labels here.
func (m *member) metadata(b []byte) error {
	return fields(b, func(x field) error {
		if x.num != 1 {
			return nil
		}
		key, value, err := entry(x.bytes)
		take := m.ours
		switch {
		case err != nil:
			return err
		case key == "envoy.lb":
			take = m.label
		case key != "pillion":
			return nil
		}
		return fields(value, func(x field) error { // Struct
			if x.num != 1 {
				return nil
			}
			key, value, err := entry(x.bytes)
			if err != nil {
				return err
			}
			text, ok, err := textOf(value)
			if err != nil || !ok {
				return err
			}
			return take(key, text)
		})
	})
}

// entry reads an entry of a map whose keys are strings and whose values are messages.
func entry(b []byte) (key string, value []byte, err error) {
	err = fields(b, func(x field) error {
		switch x.num {
		case 1:
			key = string(x.bytes)
		case 2:
			value = x.bytes
		}
		return nil
	})
	return key, value, err
}

// textOf reads a google.protobuf.Value: a string, a number or a boolean. Others are not ok.
func textOf(b []byte) (v string, ok bool, err error) {
	err = fields(b, func(x field) error {
		ok = x.num >= 2 && x.num <= 4
		switch {
		case x.num == 2 && x.kind == protowire.Fixed64Type:
			v = strconv.FormatFloat(math.Float64frombits(x.value), 'f', -1, 64)
		case x.num == 3:
			v = string(x.bytes)
		case x.num == 4:
			v = strconv.FormatBool(x.value != 0)
		}
		return nil
	})
	return v, ok, err
}

// label takes one entry of the metadata of Envoy's load balancer.
func (m *member) label(key, v string) error {
	if m.say.More == nil {
		m.say.More = make(map[string]string)
	}
	m.say.More[key] = v
	return nil
}

// ours takes one entry of the metadata that is for us.
func (m *member) ours(key, v string) error {
	switch key {
	case "identity":
		m.say.Identity = v
	case "mesh":
		m.say.Mesh = v
	case "transport":
		m.say.Transport = v
	case "port":
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("metadata: %q is no port", clip(v))
		}
		m.port = uint16(n)
	}
	return nil
}
