package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLevels: what is set for a while ends by itself, whatever happens meanwhile.
func TestLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := levels{to: new(slog.LevelVar)}
		l.configure(slog.LevelWarn)
		is := func(want slog.Level, left float64) {
			t.Helper()
			synctest.Wait()
			if st := l.status(); l.to.Level() != want || st.Level != strings.ToLower(want.String()) || st.Left != left {
				t.Errorf("the level is %v, %+v, want %v for %v s", l.to.Level(), st, want, left)
			}
		}
		set := func(name string, d time.Duration) {
			t.Helper()
			if err := l.set(name, d); err != nil {
				t.Error(err)
			}
		}
		is(slog.LevelWarn, 0)
		set("debug", time.Minute)
		is(slog.LevelDebug, 60)
		time.Sleep(30 * time.Second)
		l.configure(slog.LevelError) // a reload
		is(slog.LevelDebug, 30)
		time.Sleep(31 * time.Second)
		is(slog.LevelError, 0)
		set("debug", time.Minute)
		time.Sleep(50 * time.Second)
		set("info", time.Minute) // it begins anew
		time.Sleep(50 * time.Second)
		is(slog.LevelInfo, 10)
		l.close()
		is(slog.LevelError, 0)
		for name, d := range map[string]time.Duration{"loud": time.Minute, "": time.Minute, "debug": 25 * time.Hour} {
			if l.set(name, d) == nil {
				t.Errorf("%q for %v: no error", name, d)
			}
		}
	})
}

// TestLogLevelCommand: it is changed and shown, and only by who may.
func TestLogLevelCommand(t *testing.T) {
	at := freeAddrs(t, 1)[0]
	level := new(slog.LevelVar)
	cfg := load(t, "service: web\npeer: {listen: none}\noutbound: {listen: none}\nadmin: {listen: "+at+"}\nidentity: {dev_ca: "+t.TempDir()+"}\n")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), nil, reloading{level: level})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil || level.Level() != slog.LevelInfo {
			t.Errorf("at the end: %v, %v", err, level.Level())
		}
	}()
	awaitOK(t, "http://"+at+"/readyz")
	if got := answerOf(t, "log", "level", "--admin", at); got != "info\n" {
		t.Errorf("%q", got)
	}
	if got := answerOf(t, "log", "level", "debug", "--for", "1h", "--admin", at); !strings.HasPrefix(got, "debug for another ") || !strings.HasSuffix(got, ", then info\n") {
		t.Errorf("%q", got)
	}
	if level.Level() != slog.LevelDebug {
		t.Errorf("the level is %v", level.Level())
	}
	resp, err := http.Post("http://"+at+"/log/level?level=error&for=1m", "", nil) // without the field that no page of another site can send
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 403 || level.Level() != slog.LevelDebug {
		t.Errorf("%d, and the level is %v", resp.StatusCode, level.Level())
	}
}
