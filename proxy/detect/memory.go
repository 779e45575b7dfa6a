package detect

import (
	"errors"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pillion-proxy/pillion/proxy"
)

// memorySize is how many services a Memory knows if its size is zero. Beyond that it forgets what was asked for
// longest ago.
const memorySize = 1024

// doubts is how many connections in a row must speak against what is remembered, where a single one proves nothing.
const doubts = 3

// Memory remembers what the connections to a service spoke, so that the next one need not be looked at first. It is for one
// shard: one task at a time uses it, or all hold the shard's lock.
type Memory struct {
	lru *simplelru.LRU[proxy.Service, memo]
}

type memo struct {
	v       Verdict
	against int // connections in a row that spoke against v
}

// NewMemory returns a Memory for size services; zero means 1024.
func NewMemory(size int) (*Memory, error) {
	if size == 0 {
		size = memorySize
	}
	if size < 0 {
		return nil, errors.New("detect: negative size of a Memory")
	}
	lru, err := simplelru.NewLRU[proxy.Service, memo](size, nil)
	if err != nil {
		return nil, err
	}
	return &Memory{lru}, nil
}

// Recall returns what the connections to service spoke lately, Unknown if there was none. It is a guess: the next one may
// differ, and its bytes have the last word.
func (m *Memory) Recall(service proxy.Service) Verdict {
	x, _ := m.lru.Get(service)
	return x.v
}

// Note remembers what a connection to service spoke. What only the app can have shown, HTTP and ServerFirst, replaces at once what was
// remembered; that a client spoke first, in some other protocol, does so when three in a row did, for a client may be hasty, or
// lost. The name of a new service is kept: clone it if it is not yours.
func (m *Memory) Note(service proxy.Service, v Verdict) {
	if v == Unknown {
		return
	}
	x, _ := m.lru.Get(service)
	if x.v != Unknown && x.v != v && v != HTTP1 && v != HTTP2 && v != ServerFirst {
		if x.against++; x.against < doubts {
			m.lru.Add(service, x)
			return
		}
	}
	m.lru.Add(service, memo{v: v})
}

// Len is the number of services known.
func (m *Memory) Len() int { return m.lru.Len() }
