package xds

import (
	"cmp"
	"errors"
	"time"
)

// show tells every subscription what is known.
func (s *session) show() {
	for _, sub := range s.client.subscriptions() {
		sub.show(s.view(sub))
	}
}

// Why something is not known. They are values, so that views can be compared.
var (
	errSilent    = errors.New("the control plane says nothing of it")
	errNoCluster = errors.New("the control plane has no such cluster")
	errNoSet     = errors.New("the control plane has no endpoints for it")
	errMissing   = errors.New("the control plane no longer has it: the endpoints stay for now")
)

// view is what is known of a cluster. A control plane that was away and has nothing now is not believed at once.
func (s *session) view(sub *subscription) view {
	before := sub.last()
	v := s.look(sub, before)
	if v.known && v.set.empty() && !before.set.empty() && !s.failed.IsZero() && time.Since(s.failed) < s.client.conf.Grace {
		v.set, v.flaw = before.set, nil
		v.err = cmp.Or(v.err, errMissing)
	}
	return v
}

func (s *session) look(sub *subscription, before view) view {
	v := view{known: before.known, set: before.set, err: s.broken}
	c := s.clusters.all[sub.cluster]
	if c == nil {
		return v
	}
	problem := look(c, s.client.conf.Patience)
	switch {
	case c.state == gone:
		return v.gone(errNoCluster)
	case c.state == asked:
	case c.value.inline != nil:
		v.known, v.set = true, c.value.inline
	default:
		a := s.assignments.all[c.value.assignment]
		if a == nil {
			break
		}
		if problem == nil {
			problem = look(a, s.client.conf.Patience)
		}
		switch a.state {
		case gone:
			return v.gone(errNoSet)
		case there:
			v.known, v.set = true, a.value
		}
	}
	if v.err == nil {
		v.err = problem
	}
	return v
}

// gone is the view of what is certainly not there. If it never was that is told, and no set.
func (v view) gone(why error) view {
	if v.known {
		v.set, v.flaw = nil, why
	} else if v.err == nil {
		v.err = why
	}
	return v
}

func (s *subscription) last() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}
