package detect

import (
	"errors"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pillion-proxy/pillion/proxy"
)

// memorySize is how many services a Memory knows if its size is zero. Beyond that it forgets what was asked for
// longest ago.
const memorySize = 1024

// Memory remembers what the connections to a service spoke, so that the next one need not be looked at first. It is for one
// shard: one task at a time uses it, or all hold the shard's lock.
type Memory struct {
	lru *simplelru.LRU[proxy.Service, Verdict]
}

// NewMemory returns a Memory for size services; zero means 1024.
func NewMemory(size int) (*Memory, error) {
	if size == 0 {
		size = memorySize
	}
	if size < 0 {
		return nil, errors.New("detect: negative size of a Memory")
	}
	lru, err := simplelru.NewLRU[proxy.Service, Verdict](size, nil)
	if err != nil {
		return nil, err
	}
	return &Memory{lru}, nil
}

// Recall returns what the last connection to service spoke, Unknown if there was none. It is a guess: the next one may
// differ, and its bytes have the last word.
func (m *Memory) Recall(service proxy.Service) Verdict {
	v, _ := m.lru.Get(service)
	return v
}

// Note remembers what a connection to service spoke. The name of a new service is kept: clone it if it is not yours.
func (m *Memory) Note(service proxy.Service, v Verdict) {
	if v == Unknown {
		return
	}
	m.lru.Add(service, v)
}

// Len is the number of services known.
func (m *Memory) Len() int { return m.lru.Len() }
