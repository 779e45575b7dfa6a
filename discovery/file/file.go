package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/pillion-proxy/pillion/discovery"
	"github.com/pillion-proxy/pillion/proxy"
)

// Config says which file.
type Config struct {
	Path string
	// Defaults complete the items of the list.
	Defaults discovery.Defaults
	// Poll is how often to look. If zero, 1 s.
	Poll time.Duration
	// Settle is how long a new content must stay the same. If zero, 50 ms.
	Settle time.Duration
}

// Resolver reads one file for whichever Service it is asked.
type Resolver struct{ conf Config }

// New does not read the file: that it may appear later is the point of watching it.
func New(c Config) (*Resolver, error) {
	if c.Path == "" {
		return nil, errors.New("watch endpoints: the path of the file is empty")
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Settle <= 0 {
		c.Settle = 50 * time.Millisecond
	}
	return &Resolver{conf: c}, nil
}

// Watch implements discovery.Resolver.
func (r *Resolver) Watch(ctx context.Context, _ proxy.Service, update func([]proxy.Endpoint)) error {
	var w watch
	for {
		changed, err := w.look(r.conf.Path)
		switch {
		case err != nil:
			discovery.Report(ctx, err)
		case changed:
			r.take(ctx, &w, update)
		}
		wait := r.conf.Poll
		if w.unsettled() {
			wait = r.conf.Settle
		}
		if !discovery.Sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// take parses a content that has settled.
func (r *Resolver) take(ctx context.Context, w *watch, update func([]proxy.Endpoint)) {
	set, err := parse(r.conf.Path, w.content, r.conf.Defaults)
	if err == nil {
		w.sender.Send(set, update)
	}
	discovery.Report(ctx, err)
}

// watch is what is remembered between two looks: new → seen → taken, and back to new with each other content.
type watch struct {
	sender  discovery.Sender
	state   state
	content []byte // as of the last look
	missing bool   // the last look failed
}

type state int

const (
	fresh state = iota // no content was seen yet
	seen               // content was seen once
	taken              // content was seen twice and parsed
)

func (w *watch) unsettled() bool { return w.state == seen && !w.missing }

// look reads the file. changed means that its content is new and has settled; it is then due to be parsed.
func (w *watch) look(path string) (changed bool, err error) {
	content, err := read(path)
	if err != nil {
		w.missing = true
		return false, fmt.Errorf("endpoints: %w", err)
	}
	same := w.state != fresh && bytes.Equal(content, w.content)
	back := w.missing && same && w.state == taken // the fault of reading it is over: say so
	w.missing, w.content = false, content
	switch {
	case !same:
		w.state = seen
		return false, nil
	case w.state == seen || back:
		w.state = taken
		return true, nil
	}
	return false, nil
}

// Read reads the file at path once, as Watch would.
func Read(path string, d discovery.Defaults) ([]proxy.Endpoint, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, data, d)
}

// maxFile bounds the file, in bytes; a larger one is refused.
const maxFile = 8 << 20

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: larger than %d MiB", path, maxFile>>20)
	}
	return data, nil
}
