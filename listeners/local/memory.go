package local

import (
	"sync"
	"sync/atomic"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/detect"
)

// memory is what services have been seen to speak, for all shards, ports and status: a lock held for one look-up, once per
// connection.
type memory struct {
	changes atomic.Uint32 // counts the notes

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

// note remembers v and returns how many notes there are now.
func (m *memory) note(s proxy.Service, v detect.Verdict) uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Note(s, v)
	return m.changes.Add(1)
}

// noted is what a port noted last, so that the next request need not say it again. The zero value is nothing.
type noted struct{ last atomic.Uint64 }

// is reports whether v was noted last, by anybody.
func (n *noted) is(m *memory, v detect.Verdict) bool {
	return n.last.Load() == pack(v, m.changes.Load())
}

func (n *noted) set(v detect.Verdict, changes uint32) { n.last.Store(pack(v, changes)) }

func pack(v detect.Verdict, changes uint32) uint64 { return uint64(v)<<32 | uint64(changes) }
