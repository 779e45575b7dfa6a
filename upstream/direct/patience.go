package direct

import (
	"time"

	"github.com/pillion-proxy/pillion/proxy/task"
)

// patience learns for how long an app keeps an idle connection, from those that it closes, so that a connection is given up before the app does: a request
// that meets a closing connection may be lost. One close says little, an app that restarts closes all that it has. So two are needed, at different times
// and after nearly the same time of idling. What was learnt grows again, slowly, to find out about an app that has become more patient.
type patience struct {
	limit time.Duration // that the app was seen to have; 0 if none was
	since task.Instant  // then
	age   time.Duration // at which it closed the last connection
	at    task.Instant  // when it did
}

const (
	leastAge = 50 * time.Millisecond // of a connection whose close is one for idleness
	apart    = 50 * time.Millisecond // closes that are nearer to each other in time have one cause
	alike    = 8                     // the part by which two times of idling may differ
	regrowth = 10 * time.Minute      // in which the limit doubles
)

// closed notes that the app has closed a connection that had been idle for age.
func (p *patience) closed(age time.Duration, now task.Instant) {
	if age < leastAge {
		return
	}
	before, at := p.age, p.at
	p.age, p.at = age, now
	if at == 0 || now.Sub(at) < apart || max(age, before)-min(age, before) > max(leastAge, age/alike) {
		return
	}
	p.limit, p.since = min(age, before), now
}

// keep is how long a connection may be idle, at most most.
func (p *patience) keep(most time.Duration, now task.Instant) time.Duration {
	if p.limit == 0 {
		return most
	}
	limit := p.limit + time.Duration(float64(p.limit)*float64(now.Sub(p.since))/float64(regrowth))
	return min(most, limit-limit/alike)
}
