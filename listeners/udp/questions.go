package udp

import (
	"errors"
	"time"

	"github.com/pillion-proxy/pillion/proxy"
	"github.com/pillion-proxy/pillion/proxy/dnscache"
	"github.com/pillion-proxy/pillion/proxy/task"
)

// maxQuestions is how many DNS questions of one Flow are remembered until their answers come; those of more are not kept.
const maxQuestions = 32

// questions are those of one Flow that have no answer yet, by id. Only what was asked for is learnt.
type questions struct {
	all map[[2]byte]dnscache.Question
}

// add notes a query.
func (s *questions) add(p []byte) {
	q := dnscache.Ask(p)
	if !q.Known() {
		if len(p) >= 2 {
			delete(s.all, [2]byte(p)) // the answer to this one could be taken for that of an earlier one
		}
		return
	}
	if s.all == nil {
		s.all = make(map[[2]byte]dnscache.Question)
	}
	if len(s.all) >= maxQuestions {
		clear(s.all)
	}
	s.all[q.ID()] = q.Keep()
}

// take returns the question that p may be the answer to.
func (s *questions) take(p []byte) (q dnscache.Question, ok bool) {
	if len(p) < 2 {
		return q, false
	}
	if q, ok = s.all[[2]byte(p)]; ok {
		delete(s.all, [2]byte(p))
	}
	return q, ok
}

// known answers a query from what is kept.
func (l *Listener) known(from task.Route, p []byte) bool {
	q := dnscache.Ask(p)
	b := l.s.Datagram()
	defer l.s.Free(b)
	answer, ok := l.p.DNS.Answer(&q, time.Duration(l.s.Now()), b.B[:0])
	if !ok {
		return false
	}
	switch err := l.c.Send(answer, from); {
	case err == nil:
		l.p.Stats.Answer()
	case errors.Is(err, task.ErrNoRoom):
		l.p.Stats.Drop(proxy.DropSocket, 1)
	default:
		l.p.Stats.Drop(proxy.DropRefused, 1)
	}
	return true
}
