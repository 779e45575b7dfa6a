package local

import (
	"sync"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/detect"
)

// memory is what services have been seen to speak, for all shards and for status: a lock held for one look-up, once per
// connection.
type memory struct {
	mu    sync.Mutex
	known *detect.Memory
}

func newMemory() (*memory, error) {
	m, err := detect.NewMemory(0)
	return &memory{known: m}, err
}

func (m *memory) recall(s proxy.Service) detect.Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known.Recall(s)
}

func (m *memory) note(s proxy.Service, v detect.Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Note(s, v)
}
