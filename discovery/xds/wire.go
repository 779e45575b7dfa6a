package xds

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a message.
type field struct {
	num   protowire.Number
	kind  protowire.Type
	value uint64 // of a number
	bytes []byte // of all that has a length
}

var errMalformed = errors.New("a malformed message")

// fields calls f for each field of message b, until one is wrong.
func fields(b []byte, f func(x field) error) error {
	for len(b) > 0 {
		var x field
		var n int
		x.num, x.kind, n = protowire.ConsumeTag(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		switch x.kind {
		case protowire.VarintType:
			x.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			x.value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			x.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(x.num, x.kind, b)
		}
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// The types of the resources.
const (
	clusterType    = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	assignmentType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// response is a DiscoveryResponse, or a DeltaDiscoveryResponse.
type response struct {
	kind      string // of the resources
	version   string
	nonce     string
	resources []resource
	removed   []string // delta only
}

// resource is one resource of a response, not yet understood.
type resource struct {
	name    string // delta only
	version string // delta only
	kind    string
	body    []byte
}

func parseResponse(b []byte, delta bool) (*response, error) {
	r := new(response)
	err := fields(b, func(x field) error {
		switch {
		case x.num == 1:
			r.version = string(x.bytes)
		case x.num == 2:
			var one resource
			err := one.parse(x.bytes, delta)
			r.resources = append(r.resources, one)
			return err
		case x.num == 4:
			r.kind = string(x.bytes)
		case x.num == 5:
			r.nonce = string(x.bytes)
		case x.num == 6 && delta:
			r.removed = append(r.removed, string(x.bytes))
		case x.num == 8 && delta: // ResourceName: the same, with parameters that we never ask for
			return fields(x.bytes, func(x field) error {
				if x.num == 1 {
					r.removed = append(r.removed, string(x.bytes))
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && (r.kind == "" || r.nonce == "") {
		err = errors.New("a response without a type or a nonce")
	}
	return r, err
}

// parse reads a google.protobuf.Any, which is in a Resource if delta is set.
func (r *resource) parse(b []byte, delta bool) error {
	return fields(b, func(x field) error {
		switch {
		case delta && x.num == 1:
			r.version = string(x.bytes)
		case delta && x.num == 2:
			return r.parse(x.bytes, false)
		case delta && x.num == 3:
			r.name = string(x.bytes)
		case !delta && x.num == 1:
			r.kind = string(x.bytes)
		case !delta && x.num == 2:
			r.body = x.bytes
		}
		return nil
	})
}

// Node is who asks. https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/base.proto#config-core-v3-node
type Node struct {
	ID, Cluster, Region, Zone string
}

func (n *Node) bytes() []byte {
	var locality, b []byte
	locality = text(text(locality, 1, n.Region), 2, n.Zone)
	b = text(text(b, 1, n.ID), 2, n.Cluster)
	if len(locality) > 0 {
		b = message(b, 4, locality)
	}
	return text(b, 6, "pillion")
}

func text(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func message(b []byte, num protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), m)
}

// refusal is a google.rpc.Status of INVALID_ARGUMENT.
func refusal(why error) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3)
	return text(b, 2, clip(why.Error()))
}

// request is a DiscoveryRequest, or a DeltaDiscoveryRequest.
type request struct {
	node    *Node // nil if the server knows
	kind    string
	nonce   string // of the response that is answered, if one is
	refused error  // why it is
	// State of the world.
	version string
	names   []string
	// Delta.
	subscribe, unsubscribe []string
	have                   map[string]string // name → version
}

func (r *request) bytes(delta bool) []byte {
	var b []byte
	if delta {
		if r.node != nil {
			b = message(b, 1, r.node.bytes())
		}
		b = text(b, 2, r.kind)
		for _, n := range r.subscribe {
			b = text(b, 3, n)
		}
		for _, n := range r.unsubscribe {
			b = text(b, 4, n)
		}
		for name, version := range r.have {
			b = message(b, 5, text(text(nil, 1, name), 2, version))
		}
		b = text(b, 6, r.nonce)
		if r.refused != nil {
			b = message(b, 7, refusal(r.refused))
		}
		return b
	}
	b = text(b, 1, r.version)
	if r.node != nil {
		b = message(b, 2, r.node.bytes())
	}
	for _, n := range r.names {
		b = text(b, 3, n)
	}
	b = text(text(b, 4, r.kind), 5, r.nonce)
	if r.refused != nil {
		b = message(b, 6, refusal(r.refused))
	}
	return b
}

// clip bounds text of the server in a message.
func clip(s string) string {
	const most = 300 // bytes
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
