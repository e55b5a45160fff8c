package guess

import (
	"sync"
	"time"
)

const countAges = 24 // steps of a window in which counts that have ended are dropped

// counters are counts in memory, each for a window from its first on. What has
// ended is dropped by the thousand, without a look at each: a map is dropped when
// the last that began in it must have ended.
type counters struct {
	most   int
	window time.Duration

	mu   sync.Mutex
	ages [countAges + 1]map[countKey]counter // by when they began, the youngest first
	aged time.Time                           // when the youngest map was made
}

type counter struct {
	until int64 // Unix nanoseconds; there may be many of these
	count int32
}

func newCounters(most int, window time.Duration) counters {
	return counters{most: most, window: window}
}

// add changes a count and returns it and the end of its window. It is not ok, and
// the count 0, if there is no room for a new one.
func (c *counters) add(key countKey, delta int32, now time.Time) (count int, until time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age(now)
	in, e := c.find(key)
	if e.until <= now.UnixNano() {
		if c.size() >= c.most {
			return 0, now, false
		}
		in, e = c.ages[0], counter{until: now.Add(c.window).UnixNano()}
	}
	if e.count += delta; e.count > 0 {
		in[key] = e
	} else {
		delete(in, key)
	}
	return int(max(e.count, 0)), time.Unix(0, e.until), true
}

func (c *counters) find(key countKey) (in map[countKey]counter, e counter) {
	for _, in = range c.ages {
		if e, ok := in[key]; ok {
			return in, e
		}
	}
	return nil, counter{}
}

func (c *counters) age(now time.Time) {
	if now.Sub(c.aged) > 2*c.window {
		clear(c.ages[:])
		c.ages[0], c.aged = make(map[countKey]counter), now
	}
	for step := c.window / countAges; now.Sub(c.aged) >= step; c.aged = c.aged.Add(step) {
		copy(c.ages[1:], c.ages[:])
		c.ages[0] = make(map[countKey]counter)
	}
}

func (c *counters) size() (n int) {
	for _, m := range c.ages {
		n += len(m)
	}
	return n
}
