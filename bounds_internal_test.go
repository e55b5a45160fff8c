//go:build !race

package descopehttp

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/token"
)

// A token over 16 KiB is refused by its length, before anything is made of it.

// Nothing is allocated then, whether it is a session or a refresh token.

func TestOversizeTokensAllocateNothing(t *testing.T) {
	a, err := New(Config{ProjectID: "P2descopetest00000000000000A", HTTPClient: &http.Client{Transport: noNetwork{t}}})
	require.NoError(t, err)
	ctx, now := t.Context(), time.Now()
	until := now.Add(time.Minute)
	for _, size := range []int{token.MaxSize + 1, 64 << 10, 1 << 20} {
		oversize := strings.Repeat("A", size-2) + ".."
		for name, judge := range map[string]func() error{
			"session token": func() error { _, err := a.judge.session(ctx, oversize, clock{now, until}); return err },
			"session cookie": func() error {
				return a.judge.sessionCookie(ctx, oversize, new(lookup), clock{now, until}, fetchNever).err
			},
			"refresh token": func() error { _, err := a.judge.refresh(ctx, oversize, now); return err },
		} {
			require.Equal(t, token.ErrSize, judge(), name)
			assert.Zero(t, testing.AllocsPerRun(100, func() { _ = judge() }), "%s of %d bytes", name, size)
		}
	}
}

// The limit is exact, and a token at it is taken apart.
