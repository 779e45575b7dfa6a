package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/pillion-proxy/pillion/discovery"
)

// object is what we read of an EndpointSlice, and of its relatives in lists and events: bookmarks and Statuses.
// https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name            string            `json:"name"`
		Namespace       string            `json:"namespace"`
		ResourceVersion string            `json:"resourceVersion"`
		Continue        string            `json:"continue"`
		Labels          map[string]string `json:"labels"`
	} `json:"metadata"`
	AddressType string `json:"addressType"`
	Endpoints   []struct {
		Addresses  []string `json:"addresses"`
		Conditions struct {
			Ready       *bool `json:"ready"`
			Serving     *bool `json:"serving"`
			Terminating *bool `json:"terminating"`
		} `json:"conditions"`
		Zone     string `json:"zone"`
		NodeName string `json:"nodeName"`
		Hostname string `json:"hostname"`
		Hints    *struct {
			ForZones []struct {
				Name string `json:"name"`
			} `json:"forZones"`
		} `json:"hints"`
		TargetRef *struct {
			Kind      string `json:"kind"`
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
			UID       string `json:"uid"`
		} `json:"targetRef"`
	} `json:"endpoints"`
	Ports []struct {
		Name string `json:"name"`
		Port *int   `json:"port"`
	} `json:"ports"`

	// Of a list.
	Items []object `json:"items"`
	// Of a Status.
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
}

// event is one change. https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// slice is an EndpointSlice that has been checked.
type slice struct {
	members []member
	ports   []port
	say     discovery.Labels
}

type port struct {
	name   string
	number uint16 // 0 is any
}

type member struct {
	addr  netip.Addr
	pod   string // who has this address, "" if unknown
	state state
	zone  string
	more  string   // labels
	hints []string // zones that are to use it; nil if there is no hint
}

// state orders members by how much they are wanted.
type state int

const (
	unusable state = iota
	leaving        // terminating, and still serving
	ready
)

// portName is the name of the sidecars' port.
const portName = "pillion"

// said reads a label of ours.
func (o *object) said(name string) string { return o.Metadata.Labels["pillion-proxy/"+name] }

// labels are those of the slice, which has them of its Service, but for what is about slices themselves, and what is ours.
func (o *object) labels() map[string]string {
	all := make(map[string]string, len(o.Metadata.Labels))
	for name, value := range o.Metadata.Labels {
		domain, _, _ := strings.Cut(name, "/")
		switch domain {
		case "kubernetes.io", "endpointslice.kubernetes.io", "service.kubernetes.io", "pillion-proxy":
		default:
			all[name] = value
		}
	}
	return all
}

// labelsOf are those of endpoint i: the pod, its node and its name within the Service, over those of the slice. A pod's own labels are in no slice.
func (o *object) labelsOf(i int, slice map[string]string) map[string]string {
	e, all := &o.Endpoints[i], maps.Clone(slice)
	set := func(name, value string) {
		if value != "" {
			all[name] = value
		}
	}
	set("node", e.NodeName)
	set("hostname", e.Hostname)
	if r := e.TargetRef; r != nil && r.Kind == "Pod" {
		set("pod", r.Name)
	}
	return all
}

// check makes a slice of o, or says what is wrong with it.
func check(o *object, service string) (*slice, error) {
	name := o.Metadata.Name
	if name == "" || o.Metadata.Labels[sliceName] != service {
		return nil, fmt.Errorf("a slice %q of the Service %q came", name, o.Metadata.Labels[sliceName])
	}
	s := &slice{say: discovery.Labels{Mesh: o.said("mesh"), Transport: o.said("transport"), Weight: o.said("weight")}}
	for _, p := range o.Ports {
		number := 0
		if p.Port != nil {
			number = *p.Port
		}
		if number < 0 || number > 65535 {
			return nil, fmt.Errorf("slice %s: %d is no port", name, number)
		}
		s.ports = append(s.ports, port{p.Name, uint16(number)})
	}
	switch o.AddressType {
	case "IPv4", "IPv6":
	case "FQDN": // deprecated, and made by nobody but people; nothing says how to resolve it
		return s, nil
	default:
		return nil, fmt.Errorf("slice %s: unknown addressType %q", name, o.AddressType)
	}
	of := o.labels()
	for i := range o.Endpoints {
		m, err := checkMember(o, i)
		if err != nil {
			return nil, fmt.Errorf("slice %s: %w", name, err)
		}
		m.more = discovery.LabelsOf(o.labelsOf(i, of))
		s.members = append(s.members, m)
	}
	return s, nil
}

func checkMember(o *object, i int) (m member, err error) {
	e := &o.Endpoints[i]
	if len(e.Addresses) == 0 {
		return m, errors.New("an endpoint without an address")
	}
	// "These are all assumed to be fungible and clients may choose to only use the first element."
	if m.addr, err = netip.ParseAddr(e.Addresses[0]); err != nil || m.addr.Is4() != (o.AddressType == "IPv4") || m.addr.Zone() != "" {
		return m, fmt.Errorf("%q is no %s address", e.Addresses[0], o.AddressType)
	}
	m.zone = e.Zone
	if r := e.TargetRef; r != nil && r.Name != "" {
		m.pod = r.Kind + "/" + r.Namespace + "/" + r.Name + "/" + r.UID
	}
	if e.Hints != nil && len(e.Hints.ForZones) > 0 {
		for _, z := range e.Hints.ForZones {
			m.hints = append(m.hints, z.Name)
		}
	}
	// "A nil value should be interpreted as "true"", and for serving "consumers should defer to the ready condition".
	c := e.Conditions
	isReady := c.Ready == nil || *c.Ready
	serving := isReady
	if c.Serving != nil {
		serving = *c.Serving
	}
	switch {
	case isReady:
		m.state = ready
	case serving && c.Terminating != nil && *c.Terminating:
		m.state = leaving
	}
	return m, nil
}
