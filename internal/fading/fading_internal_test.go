package fading

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Rule: renewing: memory is bounded and lets go.
func TestFadingIsBounded(t *testing.T) {
	now := time.Now()
	f := New[string, int](100)
	for i := range 1000 {
		f.Put(fmt.Sprint(i%150), i, now, time.Duration(i%7)*time.Second)
		require.LessOrEqual(t, len(f.entries), 100)
		require.Equal(t, len(f.entries), f.order.Len())
	}
	f.Put("a", 1, now, time.Second)
	_, ok := f.Get("a", now.Add(time.Second-1))
	assert.True(t, ok)
	_, ok = f.Get("a", now.Add(time.Second))
	assert.False(t, ok)
}
