package child

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// shells returns a set of children that are shells.
func shells(t *testing.T) (*Set, context.Context) {
	t.Helper()
	alive, died := context.WithCancelCause(context.Background())
	c := New("/bin/sh", nil, died)
	t.Cleanup(c.Close)
	return c, alive
}

func startShell(t *testing.T, c *Set, name, script string) *Child {
	t.Helper()
	ch, err := c.Start(Command{Name: name, Args: []string{"-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// await waits until ch has ended, or fails.
func awaitEnd(t *testing.T, ch *Child) {
	t.Helper()
	select {
	case <-ch.ended:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not end", ch.Name)
	}
}

// awaitOutput waits until ch has written want.
func awaitOutput(t *testing.T, ch *Child, want string) {
	t.Helper()
	for range 1000 {
		if strings.Contains(ch.Last(100), want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s wrote %q, want %q", ch.Name, ch.Last(100), want)
}

// TestStopAsksThenKills: who heeds the signal ends by it, who does not is killed and named.
func TestStopAsksThenKills(t *testing.T) {
	c, alive := shells(t)
	c.patience = 300 * time.Millisecond
	polite := startShell(t, c, "polite", `trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done`)
	stubborn := startShell(t, c, "stubborn", `trap '' TERM; echo up; while :; do sleep 0.01; done`)
	awaitOutput(t, polite, "up")
	awaitOutput(t, stubborn, "up")
	if got, want := c.Stop(Everyone), []string{"stubborn"}; !slices.Equal(got, want) {
		t.Errorf("killed: got %v, want %v", got, want)
	}
	awaitOutput(t, polite, "bye")
	if alive.Err() != nil {
		t.Errorf("an end that was asked for was reported: %v", context.Cause(alive))
	}
}

// TestDeathIsReported: a child that ends by itself is named, with how.
func TestDeathIsReported(t *testing.T) {
	c, alive := shells(t)
	awaitEnd(t, startShell(t, c, "mortal", "exit 3"))
	if got, want := context.Cause(alive), "mortal ended by itself: exit status 3"; got == nil || got.Error() != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestLifeline: a child learns from its standard input that the parent has gone.
func TestLifeline(t *testing.T) {
	c, _ := shells(t)
	ch := startShell(t, c, "reader", "cat; exit 0")
	ch.lifeline.Close() // as the kernel does when the parent dies
	awaitEnd(t, ch)
}

func TestEndWithInput(t *testing.T) {
	r, w := io.Pipe()
	ended := make(chan struct{})
	go EndWithInput(r, func() { close(ended) })
	select {
	case <-ended:
		t.Fatal("ended while the input was open")
	case <-time.After(20 * time.Millisecond):
	}
	w.Close()
	<-ended
}

// TestTail: only the end is kept.
func TestTail(t *testing.T) {
	out := &tail{}
	for range 10_000 {
		_, _ = out.Write([]byte("a line of output\n"))
	}
	_, _ = out.Write([]byte("the last\n"))
	if got := len(out.buf); got > 2*tailSize {
		t.Errorf("keeps %d bytes, want at most %d", got, 2*tailSize)
	}
	if got, want := out.last(2), "    a line of output\n    the last\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
