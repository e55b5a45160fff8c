package descoperedis_test

import (
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/redistest"
)

// newClient returns the client that the README shows.
func newClient() *redis.Client {
	client := redis.NewClient(&redis.Options{ // github.com/redis/go-redis/v9
		Addr:                  os.Getenv("REDIS_ADDR"),
		ContextTimeoutEnabled: true, // give a connection up when the kit does
		DialerRetries:         1,    // a Redis that is gone is not waited for

		// Two commands that Redis before 7.2 and Valkey refuse, for each connection:
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	return client
}

func TestClientOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(readme), "client := redis.NewClient(")
	require.True(t, found)
	block, _, found = strings.Cut(block, "})\n")
	require.True(t, found)
	for line := range strings.SplitSeq(block, "\n") {
		assert.Contains(t, string(source), strings.TrimSpace(line)+"\n")
	}
}

// A Redis of Debian 12, which is 7.0, refuses nothing that client and stores send.
// Scripts are sent by their hash first, which a Redis that does not know them yet
// answers with NOSCRIPT.
func TestNoCommandIsRefused(t *testing.T) {
	t.Setenv("REDIS_ADDR", redistest.Start(t).Addr)
	client := newClient()
	defer client.Close()
	for op, call := range calls(client) {
		require.NoError(t, call(t.Context()), op)
	}

	stats, err := client.Info(t.Context(), "errorstats").Result()
	require.NoError(t, err)
	require.Contains(t, stats, "errorstat_NOSCRIPT", "errors are counted")
	for line := range strings.Lines(stats) {
		if name, isError := strings.CutPrefix(line, "errorstat_"); isError {
			assert.True(t, strings.HasPrefix(name, "NOSCRIPT:"), "refused: %s", line)
		}
	}
}
