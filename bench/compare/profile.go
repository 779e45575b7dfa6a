package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// profileScenarios are what pillion is built for, where -scenarios says nothing else: many requests at a time, few, new connections, and HTTP/2.
const profileScenarios = "S1,S2,S5,S7"

// writeProfile loads pillion with each scenario for a round, and writes to one file what both sides' processors did in all of them, for `go build -pgo`.
func (b *bench) writeProfile(ctx context.Context, file string) error {
	dir, err := os.MkdirTemp("", "pillion-profile-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	merge := []string{"tool", "pprof", "-proto", "-output", file}
	for i := range b.scenarios {
		s := &b.scenarios[i]
		if s.load == nil {
			return fmt.Errorf("-profile: %s has no load", s.ID)
		}
		profiles, err := b.profileOne(ctx, s, dir)
		if err != nil {
			return fmt.Errorf("profile %s: %w", s.ID, err)
		}
		merge = append(merge, profiles...)
	}
	if out, err := exec.CommandContext(ctx, "go", merge...).CombinedOutput(); err != nil {
		return fmt.Errorf("merge the profiles: %w\n%s", err, out)
	}
	return nil
}

// profileOne returns the files with the profiles of both sides.
func (b *bench) profileOne(ctx context.Context, s *scenario, dir string) ([]string, error) {
	pair, conf, err := b.profiled(s)
	if err != nil {
		return nil, err
	}
	defer pair.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seconds := int(math.Ceil(b.options.round.Seconds()))
	var files []string
	ends := make(chan error)
	for i, admin := range pair.Admin {
		file := filepath.Join(dir, fmt.Sprintf("%s.%d", s.ID, i))
		files = append(files, file)
		go func() {
			ends <- fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", admin, seconds), file)
		}()
	}
	read, err := pair.Load(ctx, conf, time.Duration(seconds)*time.Second)
	errs := []error{err}
	for range files {
		errs = append(errs, <-ends)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	fmt.Fprintf(b.progress, "%-5s %s\n", s.ID, describe(s, s.figures(read)))
	return files, nil
}

// fetch writes to file what url answers.
func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
