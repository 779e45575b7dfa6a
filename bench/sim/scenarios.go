package main

import (
	"time"

	"github.com/pillion-proxy/pillion/upstream/balance"
	"github.com/pillion-proxy/pillion/upstream/health"
)

// scenario is one thing that happens, and several ways to meet it.
type scenario struct {
	name, title string
	figures     []figure
	settings    []setting
	verdicts    []verdict
}

// figure is what is drawn of a scenario.
type figure struct {
	name string
	of   func(*bucket) float64
}

// verdict is what must come of it, as a sentence, and what says so if it does not.
type verdict struct {
	says  string
	check func(r map[string]*result) (got float64, ok bool)
}

// The times of the scenarios, in seconds: something happens at bad, and is over at good.
const (
	bad  = 5
	good = 15
	over = 25
)

func p99(b *bucket) float64       { return b.percentile(99) }
func success(b *bucket) float64   { return b.success() }
func amplified(b *bucket) float64 { return b.amplified() }
func wasted(b *bucket) float64    { return float64(b.wasted) / step.Seconds() }
func goodput(b *bucket) float64   { return float64(len(b.latencies)) / step.Seconds() }

// usual is a service of some thousand endpoints, each half busy.
func usual(endpoints int) setting {
	return setting{
		endpoints: endpoints, callers: 10, workers: 4, service: 20 * time.Millisecond, rate: float64(endpoints) * 20, length: over * time.Second,
		timeout: time.Second, balance: balance.Config{SlowStart: 10 * time.Second}, attempts: 3, budget: 0.2, seed: 42,
	}
}

// vary returns s with another name, changed.
func (s setting) vary(name string, f func(*setting)) setting {
	s.name = name
	if f != nil {
		f(&s)
	}
	return s
}

// some calls f for a share of the servers: every n-th.
func some(share float64, f func(*server)) func(*world) {
	return func(w *world) {
		n := int(1 / share)
		for i := 0; i < len(w.servers); i += n {
			f(&w.servers[i])
		}
	}
}

func during(do, undo func(*world)) []change {
	return []change{{bad * time.Second, do}, {good * time.Second, undo}}
}

func noEjection(s *setting) { s.health = health.Config{Share: -1} }

// scenarios are all of them, for a number of endpoints.
func scenarios(n int) []scenario {
	return []scenario{slow(n), dead(n), failing(n), outage(n), overload(), spread(n)}
}

func slow(n int) scenario {
	s := usual(n)
	s.attempts = 1
	noEjection(&s)
	s.events = during(some(0.05, func(s *server) { s.slow = 8 }), some(0.05, func(s *server) { s.slow = 1 }))
	return scenario{
		name: "slow", title: "5 % of the endpoints take 8 times as long from 5 s to 15 s; no retries, no ejection",
		figures: []figure{{"p99, ms", p99}, {"success, %", success}},
		settings: []setting{
			s.vary("peak EWMA", nil),
			s.vary("least request", func(s *setting) { s.balance.Policy = balance.LeastRequest }),
			s.vary("round robin", func(s *setting) { s.balance.Policy = balance.RoundRobin }),
		},
		verdicts: []verdict{
			{"with peak EWMA the p99 is within three times that of before", func(r map[string]*result) (float64, bool) {
				b, before := r["peak EWMA"].between(bad+2, good), r["peak EWMA"].between(1, bad)
				return p99(&b) / p99(&before), p99(&b) < 3*p99(&before)
			}},
			{"it is below a half of that of round robin", func(r map[string]*result) (float64, bool) {
				b, rr := r["peak EWMA"].between(bad+2, good), r["round robin"].between(bad+2, good)
				return p99(&b) / p99(&rr), p99(&b) < 0.5*p99(&rr)
			}},
			{"five seconds after it is over it is as it was, give or take a half", func(r map[string]*result) (float64, bool) {
				b, before := r["peak EWMA"].between(good+5, over), r["peak EWMA"].between(1, bad)
				return p99(&b) / p99(&before), p99(&b) < 1.5*p99(&before)
			}},
		},
	}
}

func dead(n int) scenario {
	s := usual(n)
	s.events = during(some(0.2, func(s *server) { s.dead = true }), some(0.2, func(s *server) { s.dead = false }))
	return scenario{
		name: "dead", title: "20 % of the endpoints refuse connections from 5 s to 15 s",
		figures: []figure{{"refused connections per second", wasted}, {"p99, ms", p99}, {"success, %", success}},
		settings: []setting{
			s.vary("peak EWMA", nil),
			s.vary("round robin", func(s *setting) { s.balance.Policy = balance.RoundRobin }),
			s.vary("maglev", func(s *setting) { s.balance.Policy = balance.Maglev }),
		},
		verdicts: []verdict{
			{"each caller finds out about each dead endpoint about once", func(r map[string]*result) (float64, bool) {
				b := r["peak EWMA"].between(bad, good)
				got := float64(b.wasted) / float64(s.callers*n/5)
				return got, got < 1.3
			}},
			{"no request fails", func(r map[string]*result) (float64, bool) {
				b := r["peak EWMA"].between(0, over)
				return float64(b.failed), b.failed == 0
			}},
			{"the dead ones have their part again in the end", func(r map[string]*result) (float64, bool) {
				b, before := r["peak EWMA"].between(over-3, over), r["peak EWMA"].between(1, bad)
				return p99(&b) / p99(&before), b.wasted == 0 && p99(&b) < 1.5*p99(&before)
			}},
		},
	}
}

func failing(n int) scenario {
	s := usual(n)
	s.events = during(some(0.05, func(s *server) { s.fails = 1 }), some(0.05, func(s *server) { s.fails = 0 }))
	return scenario{
		name: "failing", title: "5 % of the endpoints answer 503 at once from 5 s to 15 s",
		figures: []figure{{"success, %", success}, {"attempts per request", amplified}},
		settings: []setting{
			s.vary("as configured by default", nil),
			s.vary("no retries", func(s *setting) { s.attempts = 1 }),
			s.vary("no retries, no ejection", func(s *setting) { s.attempts = 1; noEjection(s) }),
			s.vary("no retries, no ejection, round robin", func(s *setting) {
				s.attempts = 1
				noEjection(s)
				s.balance.Policy = balance.RoundRobin
			}),
		},
		verdicts: []verdict{
			{"with the defaults 99.9 % succeed", func(r map[string]*result) (float64, bool) {
				b := r["as configured by default"].between(bad, good)
				return success(&b), success(&b) >= 99.9
			}},
			{"without retries the balancer and ejection alone leave less than a third of round robin's failures", func(r map[string]*result) (float64, bool) {
				b, rr := r["no retries"].between(bad, good), r["no retries, no ejection, round robin"].between(bad, good)
				return float64(b.failed) / float64(rr.failed), 3*b.failed < rr.failed
			}},
		},
	}
}

func outage(n int) scenario {
	s := usual(n)
	s.events = during(some(1, func(s *server) { s.fails = 0.9 }), some(1, func(s *server) { s.fails = 0 }))
	return scenario{
		name: "outage", title: "90 % of all requests fail everywhere from 5 s to 15 s: retries must not become the load",
		figures: []figure{{"attempts per request", amplified}, {"success, %", success}},
		settings: []setting{
			s.vary("budget of 20 %", nil),
			s.vary("no budget", func(s *setting) { s.budget = -1 }),
		},
		verdicts: []verdict{
			{"with the budget there are 1.25 attempts for each request at most", func(r map[string]*result) (float64, bool) {
				b := r["budget of 20 %"].between(bad+2, good)
				return amplified(&b), amplified(&b) <= 1.25
			}},
			{"without it there are more than twice as many as requests", func(r map[string]*result) (float64, bool) {
				b := r["no budget"].between(bad+2, good)
				return amplified(&b), amplified(&b) > 2
			}},
		},
	}
}

func overload() scenario {
	s := usual(10)
	s.workers, s.rate, s.attempts, s.callers = 10, 2500, 1, 4 // half of what the endpoints can bear
	noEjection(&s)
	s.balance.Policy = balance.RoundRobin
	s.timeout = 2 * time.Second
	s.events = []change{{bad * time.Second, func(w *world) { w.rate = 7500 }}, {good * time.Second, func(w *world) { w.rate = 2500 }}}
	return scenario{
		name: "overload", title: "ten endpoints get half more than they can bear from 5 s to 15 s",
		figures: []figure{{"p99 of those that succeed, ms", p99}, {"successes per second", goodput}},
		settings: []setting{
			s.vary("Gradient2", func(s *setting) { s.limit = true }),
			s.vary("no limit", nil),
		},
		verdicts: []verdict{
			{"with the limit 80 % of what the endpoints can bear succeeds", func(r map[string]*result) (float64, bool) {
				b := r["Gradient2"].between(bad+2, good)
				rate := float64(len(b.latencies)) / (good - bad - 2)
				return rate, rate > 0.8*5000
			}},
			{"its p99 is below a third of that without", func(r map[string]*result) (float64, bool) {
				b, none := r["Gradient2"].between(bad+2, good), r["no limit"].between(bad+2, good)
				return p99(&b) / p99(&none), 3*p99(&b) < p99(&none)
			}},
			{"two seconds after it is over it is as it was", func(r map[string]*result) (float64, bool) {
				b := r["Gradient2"].between(good+2, over)
				return success(&b), success(&b) > 99.5
			}},
		},
	}
}

func spread(n int) scenario {
	s := usual(n)
	s.attempts, s.length = 1, 10*time.Second
	all := scenario{
		name: "spread", title: "nothing happens: how evenly the policies spread, endpoints 90 % busy",
		figures: []figure{{"p99, ms", p99}},
		verdicts: []verdict{
			{"two choices bring a lower p99 than round robin", func(r map[string]*result) (float64, bool) {
				b, rr := r["least request"].between(1, 10), r["round robin"].between(1, 10)
				return p99(&b) / p99(&rr), p99(&b) < p99(&rr)
			}},
			{"peak EWMA too", func(r map[string]*result) (float64, bool) {
				b, rr := r["peak EWMA"].between(1, 10), r["round robin"].between(1, 10)
				return p99(&b) / p99(&rr), p99(&b) < p99(&rr)
			}},
		},
	}
	s.workers, s.rate, s.callers = 1, float64(n)*45, 1
	for _, x := range []struct {
		name   string
		policy balance.Policy
	}{{"peak EWMA", balance.PeakEWMA}, {"least request", balance.LeastRequest}, {"round robin", balance.RoundRobin}} {
		all.settings = append(all.settings, s.vary(x.name, func(s *setting) { s.balance.Policy = x.policy }))
	}
	return all
}
