package descope

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// What could wait may have little until the grant is shown, and then more by and by: what
// is due is known when a usual session has lived.
func TestRoomGrows(t *testing.T) {
	const own = 100
	r, now := newRoom(), time.Now()
	for range grantedAny {
		r.note(now, own)
	}
	now = now.Add(time.Hour)
	r.note(now, own)
	assert.EqualValues(t, unprovedRoom, r.limit.Limit(), "a hundred in an hour show nothing")
	for range grantedAny {
		r.note(now, own)
	}
	for after, want := range map[time.Duration]float64{0: unprovedRoom, 5 * time.Minute: 40, 10 * time.Minute: 80, time.Hour: 80} {
		r.grown = time.Time{}
		r.note(now.Add(after), own)
		assert.EqualValues(t, want, r.limit.Limit(), after)
		assert.Equal(t, int(3*want)+1, r.limit.Burst(), after)
	}
	slow := newRoom()
	slow.proved = now
	slow.note(now.Add(time.Hour), 1)
	assert.EqualValues(t, 1, slow.limit.Limit(), "no more than all")
}
