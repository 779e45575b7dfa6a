package task

import (
	"context"
	"math"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stubTimer notes when it fired.
type stubTimer struct {
	node  timerNode
	due   Instant
	fired []Instant
}

func (s *stubTimer) expire(now Instant) { s.fired = append(s.fired, now) }

// TestWheel arms timers of every reach and checks that each fires once, never early, and late by the grain only; and that
// a poll that sleeps until the next timer misses none.
func TestWheel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w wheel
	now := Instant(time.Hour)
	w.tick = int64(now) / int64(wheelGrain)
	var timers []*stubTimer
	for range 3000 {
		s := &stubTimer{due: now + Instant(r.Int64N(1<<(20+r.IntN(27))))} // up to 39 hours
		s.node.owner = s
		w.arm(&s.node, s.due)
		timers = append(timers, s)
	}
	for i, s := range timers {
		if i%10 == 0 {
			w.remove(&s.node)
			w.remove(&s.node)
		}
	}
	sort.Slice(timers, func(i, j int) bool { return timers[i].due < timers[j].due })
	for steps := 0; ; steps++ {
		d := w.until(now)
		if d < 0 {
			break
		}
		if steps > 100000 {
			t.Fatal("the wheel never empties")
		}
		now += max(Instant(d), 1)
		if r.IntN(4) == 0 {
			now += Instant(r.Int64N(int64(3 * wheelGrain))) // the loop was busy
		}
		w.advance(now)
	}
	removed := 0
	for _, s := range timers {
		if len(s.fired) == 0 {
			removed++
			continue
		}
		reach := Instant(wheelReach * int64(wheelGrain))
		late := s.fired[0] - s.due
		if len(s.fired) != 1 || late < 0 && s.due-now > reach || late > Instant(4*wheelGrain) {
			t.Fatalf("due at %v, fired at %v", s.due, s.fired)
		}
		if late < 0 {
			t.Fatalf("due at %v, fired at %v, too early", s.due, s.fired)
		}
	}
	if removed != 300 {
		t.Errorf("%d timers have not fired, want the 300 that were removed", removed)
	}
}

// TestWheelArmAgain checks lazy arming: later costs nothing, earlier moves.
func TestWheelArmAgain(t *testing.T) {
	var w wheel
	s := &stubTimer{}
	s.node.owner = s
	w.arm(&s.node, Instant(100*time.Millisecond))
	w.arm(&s.node, Instant(time.Hour))
	w.arm(&s.node, Instant(50*time.Millisecond))
	w.advance(Instant(49 * time.Millisecond))
	if len(s.fired) != 0 {
		t.Errorf("fired at %v", s.fired)
	}
	w.advance(Instant(60 * time.Millisecond))
	w.advance(Instant(2 * time.Hour))
	if len(s.fired) != 1 {
		t.Errorf("fired at %v, want once", s.fired)
	}
}

// TestStaleEvent has an event of a closed descriptor arrive when its number belongs to another connection.
func TestStaleEvent(t *testing.T) {
	rt, err := New(Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	l := rt.(*loopRuntime).all[0]
	if err := l.openPoller(); err != nil {
		t.Fatal(err)
	}
	defer l.closePoller()
	open := func() (*loopConn, int) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.newConn(fds[0], nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		return c, fds[1]
	}
	first, firstPeer := open()
	fd := int(first.fd)
	unix.Write(firstPeer, []byte("x"))
	l.eventN, l.eventAt = l.epollWait(time.Second, false), 0 // the event is in the batch, not yet handled
	first.Close()
	second, secondPeer := open()
	if int(second.fd) != fd {
		t.Fatalf("descriptor %d, want %d again", second.fd, fd)
	}
	l.handleEvents()
	if second.is(readable) {
		t.Error("an event of the closed connection reached the new one")
	}
	second.Close()
	unix.Close(firstPeer)
	unix.Close(secondPeer)
}

// TestLoadAtStart has a loop idle since it began: it must not look busy, however long the process has run.
func TestLoadAtStart(t *testing.T) {
	rt, err := New(Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * loadWindow)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	l := rt.(*loopRuntime).all[0]
	for range 20 {
		if got := l.load.value(Now()); got >= busyPermille {
			t.Errorf("an idle loop is busy: %d permille", got)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestQuotaCPUs(t *testing.T) {
	for _, test := range []struct {
		text string
		want int
	}{
		{"max 100000\n", math.MaxInt}, {"100000 100000\n", 1}, {"50000 100000", 1}, {"350000 100000", 3},
		{"-1\n 100000\n", math.MaxInt}, {"", math.MaxInt}, {"1 0", math.MaxInt},
	} {
		if got := quotaCPUs(test.text); got != test.want {
			t.Errorf("quotaCPUs(%q) = %d, want %d", test.text, got, test.want)
		}
	}
}

// TestPick fills the first loop until it is busy, then the least loaded, and never lets one run far ahead.
func TestPick(t *testing.T) {
	made, err := New(Config{Loops: 3})
	if err != nil {
		t.Fatal(err)
	}
	rt := made.(*loopRuntime)
	for _, test := range []struct {
		load  [3]int32
		conns [3]int64
		want  int
	}{
		{[3]int32{0, 0, 0}, [3]int64{200, 0, 0}, 0},
		{[3]int32{600, 0, 0}, [3]int64{200, 0, 0}, 0},
		{[3]int32{800, 100, 0}, [3]int64{2, 1, 0}, 1},
		{[3]int32{800, 900, 0}, [3]int64{2, 1, 0}, 2},
		{[3]int32{900, 800, 850}, [3]int64{0, 1, 1}, 1},
		{[3]int32{1000, 1000, 1000}, [3]int64{9, 7, 8}, 1},
		{[3]int32{0, 0, 0}, [3]int64{1000, 0, 0}, 1},
		{[3]int32{0, 0, 0}, [3]int64{1000, 1000, 900}, 0},
	} {
		for i, l := range rt.all {
			l.load.permille.Store(test.load[i])
			l.load.at.Store(int64(Now()))
			l.seen.conns.Store(test.conns[i])
		}
		if got := rt.Pick().Index(); got != test.want {
			t.Errorf("load %v, conns %v: shard %d, want %d", test.load, test.conns, got, test.want)
		}
	}
}

// TestWatchdogPause expects few looks while nothing takes long, and many where there may be a stall to name.
func TestWatchdogPause(t *testing.T) {
	const after = 10 * time.Millisecond
	w := &watchdog{rt: &loopRuntime{cfg: Config{StallAfter: after}}}
	now := time.Now()
	for _, test := range []struct {
		name string
		took time.Duration
		seen turnSeen
		at   time.Duration
		want time.Duration
	}{
		{name: "asleep", seen: turnSeen{no: 2}, want: calmEvery},
		{name: "something runs", seen: turnSeen{no: 3}, want: after},
		{name: "it was reported", seen: turnSeen{no: 3, reported: true}, want: calmEvery},
		{name: "a short turn", took: after - 1, want: calmEvery},
		{name: "a long turn", took: after, want: after},
		{name: "soon after it", at: alertFor - 1, want: after},
		{name: "long after it", at: alertFor, want: calmEvery},
	} {
		w.took(test.took)
		if got := w.pause([]turnSeen{test.seen}, now.Add(test.at), after); got != test.want {
			t.Errorf("%s: a pause of %v, want %v", test.name, got, test.want)
		}
	}
}

// TestLongestTurn: a turn that takes long is remembered, a shorter one after it is not.
func TestLongestTurn(t *testing.T) {
	var m load
	m.start = 1
	for _, d := range []time.Duration{time.Millisecond, 7 * time.Millisecond, 2 * time.Millisecond} {
		m.busy(d)
	}
	if got := time.Duration(m.longest.Load()); got != 7*time.Millisecond {
		t.Errorf("got %v, want 7ms", got)
	}
	if now := Instant(1).Add(loadWindow); !m.publish(now) || m.value(now) != 100 {
		t.Errorf("awake for 10 ms of 100: %d permille", m.value(now))
	}
}
