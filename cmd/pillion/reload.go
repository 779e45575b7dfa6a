package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pillion-proxy/pillion/cmd/internal/config"
	"github.com/pillion-proxy/pillion/listeners/admin"
	"github.com/pillion-proxy/pillion/proxy/inbound"
	"github.com/pillion-proxy/pillion/proxy/outbound"
)

// reloading is where another configuration comes from. The zero value never has one.
type reloading struct {
	load  func() (*config.Config, error) // reads it again, as at the start
	asked <-chan struct{}                // a signal
	level *slog.LevelVar                 // of the log
	look  time.Duration                  // how often to look at the file; if zero, 1 s
}

// reloads is what has been reloaded so far.
type reloads struct {
	one sync.Mutex // held while one runs

	mu      sync.Mutex // guards what follows
	count   uint64
	failed  uint64
	why     string // the last one failed; "" if it did not
	whyWhen time.Time
}

// mayChange reports whether a reload can change the key: everything that follows from it is made anew by commit. The others need a restart: who this sidecar is and
// where (service, zone, identity, register and registration), what its peers connect to (peer), the sockets of outbound.dns, outbound.http3 and admin (but not whom admin.share names), the folder of
// the cache, limits, which every connection has, and the form of the log.
func mayChange(key string, cfg *config.Config) bool {
	may := []string{"services", "app", "outbound.listen", "outbound.socket", "outbound.proxy_protocol", "outbound.others", "drain", "log.level", "reload",
		"consul", "etcd", "kubernetes", "xds", "cache.size", "cache.max_object", "tracing", "access_log",
		"admin.tap_bodies", "admin.pprof", "admin.token", "admin.write_token", "admin.share"}
	return string(cfg.Register) != strings.SplitN(key, ".", 2)[0] && // whoever is entered there stays with the client that entered it
		slices.ContainsFunc(may, func(may string) bool {
			rest, ok := strings.CutPrefix(key, may)
			return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
		})
}

// reload reads the configuration again and, if apply is true and it is without mistakes, puts it into force, whole or not at all.
func (s *sidecar) reload(cause string, apply bool) admin.Reload {
	s.reloads.one.Lock()
	defer s.reloads.one.Unlock()
	res, err := s.tryReload(apply)
	res.Generation = s.Present.now.Load().number
	if err != nil {
		res.Problems = append(res.Problems, problemsOf(err)...)
	}
	res.OK = len(res.Problems) == 0
	if !apply {
		return res
	}
	s.noteReload(cause, &res)
	return res
}

// problemsOf makes one of each line of err.
func problemsOf(err error) []admin.Problem {
	var all []admin.Problem
	var mistakes config.Problems
	if errors.As(err, &mistakes) {
		for _, p := range mistakes {
			all = append(all, admin.Problem(p))
		}
		return all
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		all = append(all, admin.Problem{Text: line})
	}
	return all
}

// noteReload tells the log, and remembers for status.
func (s *sidecar) noteReload(cause string, res *admin.Reload) {
	r := &s.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if res.OK {
		r.why = ""
		s.Log.Info("configuration reloaded", "cause", cause, "changes", len(res.Changes), "generation", res.Generation)
		return
	}
	p := res.Problems[0]
	r.failed++
	r.why, r.whyWhen = config.Problem(p).String(), time.Now()
	if p.File == "" {
		r.why = p.Text
	}
	if more := len(res.Problems) - 1; more > 0 {
		r.why += fmt.Sprintf(" (and %d more)", more)
	}
	s.Log.Error("configuration not reloaded: what was in force stays in force", "cause", cause, "err", r.why)
}

// tryReload is the reload itself. With an error, or problems, nothing has changed.
func (s *sidecar) tryReload(apply bool) (res admin.Reload, err error) {
	switch {
	case s.How.load == nil:
		return res, errors.New("this sidecar has no configuration that could be read again")
	case s.phase.Load() >= draining:
		return res, errors.New("this sidecar is stopping")
	}
	cfg, err := s.How.load()
	if err != nil {
		return res, err
	}
	if mistakes := inspectSockets(cfg); len(mistakes) > 0 {
		return res, mistakes
	}
	before := s.Present.now.Load()
	for _, c := range config.Diff(before.cfg, cfg) {
		restart := !mayChange(c.Key, cfg)
		res.Changes = append(res.Changes, admin.Change{Key: c.Key, Old: c.Old, New: c.New, Restart: restart})
		if restart {
			res.Problems = append(res.Problems, admin.Problem{File: cfg.File, Key: c.Key, Text: "cannot be changed while the sidecar runs; restart it, or take the change back"})
		}
	}
	if usesQUIC(cfg) && s.Far.Runtime == nil {
		res.Problems = append(res.Problems, admin.Problem{File: cfg.File, Text: "asks for QUIC, without which this sidecar was started; restart it"})
	}
	if s.Registrar != nil && !slices.Equal(appPorts(before.cfg), appPorts(cfg)) {
		res.Problems = append(res.Problems, admin.Problem{File: cfg.File, Key: "app", Text: "the ports of app are in the registry as they were at the start; restart the sidecar to change them"})
	}
	for _, key := range keptDiffer(before.cfg, cfg) {
		res.Problems = append(res.Problems, admin.Problem{File: cfg.File, Key: key,
			Text: "cannot be changed while the port stays open; give it another listen as well, or restart the sidecar"})
	}
	if !apply || len(res.Problems) > 0 || len(res.Changes) == 0 {
		return res, nil
	}
	for _, w := range cfg.Warnings {
		s.Log.Warn(w.String())
	}
	return s.take(res, before, cfg)
}

// appPorts are the ports that peers may ask for.
func appPorts(cfg *config.Config) []uint16 {
	var all []uint16
	for _, a := range cfg.App {
		all = append(all, a.Port)
	}
	return all
}

// take does all that may fail before anything changes, and then commits.
func (s *sidecar) take(res admin.Reload, before *generation, cfg *config.Config) (admin.Reload, error) {
	socks, err := rebind(cfg, before.socks)
	if err != nil {
		return res, err
	}
	plan, err := s.Finder.prepare(cfg, socks)
	if err != nil {
		socks.closeOpened()
		return res, err
	}
	rec, err := s.Observers.prepare(before.cfg, cfg)
	if err != nil {
		socks.closeOpened()
		return res, err
	}
	if s.admins != nil {
		if err := s.admins.SetAccess(accessOf(cfg)); err != nil { // cannot happen: cfg was checked
			socks.closeOpened()
			return res, err
		}
	}
	res.Applied = true
	return res, s.commit(cfg, socks, plan, rec)
}

// commit puts cfg into force. A request that has begun goes on as it began. An error is that of a port that is bound and cannot be served.
func (s *sidecar) commit(cfg *config.Config, socks *sockets, p *plan, rec *recording) error {
	s.Finder.commit(p)
	s.Observers.commit(rec, cfg)
	s.Cache.Resize(cfg.Cache.Size, cfg.Cache.MaxObject)
	s.Flows.update(cfg)
	s.Upstream.Replace(upstreamServices(cfg, s.Finder, s.Runtime))
	s.Present.replace(cfg, socks)
	s.Outbound.replace(outbound.New(s.Makings.outbound(cfg, socks)))
	s.Inbound.replace(inbound.New(s.Makings.inbound(cfg)))
	s.Local.Replace(portsOf(cfg), s.Flows.associated(cfg))
	if s.DNS != nil {
		s.DNS.Replace(namesOf(cfg, socks))
	}
	s.levels.configure(levelOf(cfg.Log))
	s.retirePorts()
	return s.openPorts()
}

// reloadWhenAsked reloads at each signal, and when the file changes.
func (s *sidecar) reloadWhenAsked(ctx context.Context) error {
	look := s.How.look
	if look == 0 {
		look = time.Second
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	var w watchedFile
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.How.asked:
			s.Observers.reopen()
			s.reload("signal", true)
		case <-tick.C:
			cfg := s.config()
			if cfg.File == "" || !cfg.Reload.Watch || !w.settled(cfg.File) {
				continue
			}
			if changed, err := cfg.Changed(); err == nil && (changed || s.reloads.failing()) {
				s.reload("the file has changed", true)
			}
		}
	}
}

// watchedFile is what was seen of the file: its content is read when it may be another one, and was the same at two looks, so that half a file is not
// taken for a whole one. Symbolic links are followed.
type watchedFile struct {
	seen, tried fs.FileInfo // nil: none
}

// settled reports whether the file at path may have a content that has not been tried yet.
func (w *watchedFile) settled(path string) bool {
	now, err := os.Stat(path)
	if err != nil {
		w.seen = nil
		return false
	}
	before := w.seen
	w.seen = now
	if !sameContent(now, before) || sameContent(now, w.tried) {
		return false
	}
	w.tried = now
	return true
}

func sameContent(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// failing reports whether the file is not what is in force.
func (r *reloads) failing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why != ""
}

// configuration is for status.
func (s *sidecar) configuration() *admin.Configuration {
	now := s.Present.now.Load()
	r := &s.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &admin.Configuration{Generation: now.number, Age: time.Since(now.since).Seconds(), Reloads: r.count, Failed: r.failed, Error: r.why}
	if r.why != "" {
		c.ErrorAge = time.Since(r.whyWhen).Seconds()
	}
	return c
}
