package direct

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// Health is what one shard knows of an app, for status.
type Health struct {
	Idle   int           // kept HTTP/1 connections
	At     task.Instant  // when the last connect ended; 0 if there was none
	Why    string        // it failed; "" if it did not
	Keep   time.Duration // how long one of them is kept: less than the app keeps it, as far as that was seen; 0 before the first request
	Speaks string        // what it was found to speak, on any shard: "http1", "h2c" or both; "" before
}

// Health returns what shard s knows of the app at ep. It is for tasks and callbacks of s.
func (d *Direct) Health(s task.Shard, ep proxy.Endpoint) Health {
	_, k := address(&ep)
	st := d.shards[s.Index()]
	s.Lock()
	defer s.Unlock()
	t := st.targets[k]
	if t == nil {
		return Health{}
	}
	return Health{Keep: t.seen.keep(t.most, s.Now()), Idle: len(t.idle), At: t.dialled, Why: t.why, Speaks: t.speech.String()}
}

// dialled notes how a connect ended.
func (st *shardState) dialled(k key, err error) {
	why := ""
	if err != nil {
		why = err.Error()
	}
	st.shard.Lock()
	defer st.shard.Unlock()
	if t := st.targets[k]; t != nil {
		t.dialled, t.why = st.shard.Now(), why
	}
}
