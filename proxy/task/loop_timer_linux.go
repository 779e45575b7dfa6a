package task

import (
	"math/bits"
	"time"
)

// wheel is a hierarchical timer wheel: four levels of 64 slots, the finest of which are 4 ms wide. Arming and
// disarming cost a few list operations; a deadline that only moves later costs nothing until it fires.
type wheel struct {
	tick  int64 // the last one that has been fired
	used  [wheelLevels]uint64
	slots [wheelLevels][wheelSlots]*timerNode
}

const (
	wheelGrain  = 4 * time.Millisecond
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 4 // 64^4 ticks of 4 ms: 18 hours; later ones are looked at again then
	wheelReach  = 1<<(wheelBits*wheelLevels) - 1
)

// timerOwner is what a node of the wheel belongs to.
type timerOwner interface {
	// expire is called once the armed time has come. It may arm the node again.
	expire(now Instant)
}

// timerNode is one timer, embedded in its owner.
type timerNode struct {
	owner      timerOwner
	next, prev *timerNode // prev is nil for the head of a slot
	tick       int64      // 0 if not armed
	level      uint8
	slot       uint8
}

// tickOf rounds up.
func tickOf(t Instant) int64 { return (int64(t) + int64(wheelGrain) - 1) / int64(wheelGrain) }

// arm makes n fire at t, or earlier if it is armed for an earlier time already: its owner then looks at the clock.
func (w *wheel) arm(n *timerNode, t Instant) {
	tick := max(tickOf(t), w.tick+1)
	if n.tick != 0 {
		if n.tick <= tick {
			return
		}
		w.remove(n)
	}
	n.tick = tick
	w.insert(n)
}

func (w *wheel) insert(n *timerNode) {
	at := min(n.tick, w.tick+wheelReach)
	level := 0
	for d := at - w.tick; d >= wheelSlots; d >>= wheelBits {
		level++
	}
	slot := at >> (wheelBits * level) & (wheelSlots - 1)
	n.level, n.slot = uint8(level), uint8(slot)
	head := w.slots[level][slot]
	n.next, n.prev = head, nil
	if head != nil {
		head.prev = n
	}
	w.slots[level][slot] = n
	w.used[level] |= 1 << slot
}

func (w *wheel) remove(n *timerNode) {
	if n.tick == 0 {
		return
	}
	n.tick = 0
	if n.next != nil {
		n.next.prev = n.prev
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		w.slots[n.level][n.slot] = n.next
		if n.next == nil {
			w.used[n.level] &^= 1 << n.slot
		}
	}
	n.next, n.prev = nil, nil
}

// nextTick returns the next tick at which there is something to do, or 0.
func (w *wheel) nextTick() int64 {
	var next int64
	for level, used := range w.used {
		if used == 0 {
			continue
		}
		shift := wheelBits * level
		from := w.tick>>shift + 1
		ahead := bits.TrailingZeros64(bits.RotateLeft64(used, -int(from&(wheelSlots-1))))
		if t := (from + int64(ahead)) << shift; next == 0 || t < next {
			next = t
		}
	}
	return next
}

// until returns how long a poll may sleep, or -1 if no timer is armed.
func (w *wheel) until(now Instant) time.Duration {
	next := w.nextTick()
	if next == 0 {
		return -1
	}
	return max(0, Instant(next*int64(wheelGrain)).Sub(now))
}

// advance fires what is due at now.
func (w *wheel) advance(now Instant) {
	target := int64(now) / int64(wheelGrain)
	for w.tick < target {
		next := w.nextTick()
		if next == 0 || next > target {
			w.tick = target
			return
		}
		w.tick = next
		for level := wheelLevels - 1; level > 0; level-- {
			if next&(1<<(wheelBits*level)-1) == 0 {
				w.cascade(level, int(next>>(wheelBits*level))&(wheelSlots-1))
			}
		}
		w.fire(int(next&(wheelSlots-1)), now)
	}
}

// cascade moves the timers of a slot to finer levels.
func (w *wheel) cascade(level, slot int) {
	n := w.slots[level][slot]
	w.slots[level][slot] = nil
	w.used[level] &^= 1 << slot
	for n != nil {
		next := n.next
		w.insert(n)
		n = next
	}
}

// fire takes the timers of a slot one by one, since an owner may remove others.
func (w *wheel) fire(slot int, now Instant) {
	for n := w.slots[0][slot]; n != nil; n = w.slots[0][slot] {
		w.remove(n)
		n.owner.expire(now)
	}
}
