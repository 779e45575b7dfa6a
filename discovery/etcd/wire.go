package etcd

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// The methods that are called, of https://github.com/etcd-io/etcd/blob/release-3.4/etcdserver/etcdserverpb/rpc.proto.
const (
	methodRange        = "/etcdserverpb.KV/Range"
	methodPut          = "/etcdserverpb.KV/Put"
	methodDelete       = "/etcdserverpb.KV/DeleteRange"
	methodWatch        = "/etcdserverpb.Watch/Watch"
	methodGrant        = "/etcdserverpb.Lease/LeaseGrant"
	methodRevoke       = "/etcdserverpb.Lease/LeaseRevoke"
	methodKeepAlive    = "/etcdserverpb.Lease/LeaseKeepAlive"
	methodAuthenticate = "/etcdserverpb.Auth/Authenticate"
)

// message is what is sent: fields are appended.
type message []byte

func (m message) bytes(n protowire.Number, v []byte) message {
	if len(v) == 0 {
		return m
	}
	return protowire.AppendBytes(protowire.AppendTag(m, n, protowire.BytesType), v)
}

func (m message) number(n protowire.Number, v int64) message {
	if v == 0 {
		return m
	}
	return protowire.AppendVarint(protowire.AppendTag(m, n, protowire.VarintType), uint64(v))
}

var errWire = errors.New("the answer is no message of etcd's")

// mostFields is more than any message of etcd's has; what has more was hurt on its way, so that what follows is read wrongly.
const mostFields = 100

// fields calls f for each field of a message that is a number or bytes; others are passed over.
func fields(data []byte, f func(n protowire.Number, number int64, bytes []byte) error) error {
	for len(data) > 0 {
		n, kind, length := protowire.ConsumeTag(data)
		if length < 0 || n > mostFields {
			return errWire
		}
		data = data[length:]
		var (
			v uint64
			b []byte
		)
		switch kind {
		case protowire.VarintType:
			v, length = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			b, length = protowire.ConsumeBytes(data)
			if b == nil {
				b = []byte{}
			}
		default:
			length = protowire.ConsumeFieldValue(n, kind, data)
		}
		if length < 0 {
			return errWire
		}
		data = data[length:]
		if kind != protowire.VarintType && kind != protowire.BytesType {
			continue
		}
		if err := f(n, int64(v), b); err != nil {
			return err
		}
	}
	return nil
}

// header is a ResponseHeader.
type header struct {
	cluster  int64
	revision int64
}

func (h *header) parse(data []byte) error {
	return fields(data, func(n protowire.Number, v int64, _ []byte) error {
		switch n {
		case 1:
			h.cluster = v
		case 3:
			h.revision = v
		}
		return nil
	})
}

// pair is a KeyValue.
type pair struct {
	key, value []byte
	revision   int64 // mod_revision
	lease      int64
}

func parsePair(data []byte) (p pair, err error) {
	err = fields(data, func(n protowire.Number, v int64, b []byte) error {
		switch n {
		case 1:
			p.key = b
		case 3:
			p.revision = v
		case 5:
			p.value = b
		case 6:
			p.lease = v
		}
		return nil
	})
	return p, err
}

// rangeRequest asks for all keys from begin to before end; one key without an end.
func rangeRequest(begin, end []byte) message { return message(nil).bytes(1, begin).bytes(2, end) }

// listing is a RangeResponse.
type listing struct {
	header header
	pairs  []pair
}

func parseListing(data []byte) (l listing, err error) {
	err = fields(data, func(n protowire.Number, _ int64, b []byte) error {
		switch n {
		case 1:
			return l.header.parse(b)
		case 2:
			p, err := parsePair(b)
			l.pairs = append(l.pairs, p)
			return err
		}
		return nil
	})
	if err == nil && l.header.revision <= 0 {
		err = errWire
	}
	return l, err
}

// createWatch is a WatchRequest for the keys from begin to before end, of what came at revision from and later. The server sends now and then how far it is.
func createWatch(id int64, begin, end []byte, from int64) message {
	create := message(nil).bytes(1, begin).bytes(2, end).number(3, from).number(4, 1).number(7, id)
	return message(nil).bytes(1, create)
}

func cancelWatch(id int64) message { return message(nil).bytes(2, message(nil).number(1, id)) }

// happened is a WatchResponse.
type happened struct {
	header            header
	id                int64
	created, canceled bool
	compacted         int64 // the least revision that there still is, where canceled for that
	reason            string
	events            []event
}

type event struct {
	deleted bool
	pair
}

func parseHappened(data []byte) (h happened, err error) {
	err = fields(data, func(n protowire.Number, v int64, b []byte) error {
		switch n {
		case 1:
			return h.header.parse(b)
		case 2:
			h.id = v
		case 3:
			h.created = v != 0
		case 4:
			h.canceled = v != 0
		case 5:
			h.compacted = v
		case 6:
			h.reason = string(b)
		case 11:
			e, err := parseEvent(b)
			h.events = append(h.events, e)
			return err
		}
		return nil
	})
	return h, err
}

func parseEvent(data []byte) (e event, err error) {
	err = fields(data, func(n protowire.Number, v int64, b []byte) (err error) {
		switch n {
		case 1:
			e.deleted = v == 1
		case 2:
			e.pair, err = parsePair(b)
		}
		return err
	})
	return e, err
}

// numberIn returns field n of an answer, 0 if it is not there.
func numberIn(data []byte, n protowire.Number) (found int64, err error) {
	err = fields(data, func(at protowire.Number, v int64, _ []byte) error {
		if at == n {
			found = v
		}
		return nil
	})
	return found, err
}
