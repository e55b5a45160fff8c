//go:build !race

package token_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// The race detector changes what is allocated, so this file is left out under it.

// cost returns the bytes and objects that f allocates, per run.
func cost(runs int, f func()) (bytes, objects uint64) {
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	n := uint64(runs)
	return (after.TotalAlloc - before.TotalAlloc) / n, (after.Mallocs - before.Mallocs) / n
}

// fill repeats what item returns until the text has size bytes, and cuts it at an
// item.
func fill(size int, item func(i int) string) string {
	var b strings.Builder
	for i := 0; ; i++ {
		next := item(i)
		if b.Len()+len(next) > size {
			return strings.TrimSuffix(b.String(), ",")
		}
		b.WriteString(next)
	}
}

// shortName returns the i-th of many short JSON strings.
func shortName(i int) string {
	const chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'()*+-./:;<=>?@[]^_`{|}~"
	name := ""
	for ; i >= 0; i = i/len(chars) - 1 {
		name += string(chars[i%len(chars)])
	}
	return `"` + name + `"`
}

// A token of 16 KiB costs a bounded amount of memory, whatever is in it. The
// signatures are good, so that nothing ends the judgement early, and nothing is
// remembered.
//
// Rule: tokens: against a token made to be expensive (16 KiB of nesting, members, escapes):
// refused over 16 KiB before anything is allocated; at most 1 MiB and 5,000 objects at 16 KiB.
func TestWorstTokens(t *testing.T) {
	h := kittest.NewHostile(t, func(c *descopehttp.Config) { c.MaxCachedSessions = -1 })
	base := kittest.ClaimsJSON(t, h.Claims(nil))
	const room = 16<<10*3/4 - 400 // of the payload, beside header and signature
	size := room - len(base) - 20

	claims := func(members string) string {
		return kittest.SignRaw(t, h.RSA, kittest.RS256Header, strings.TrimSuffix(base, "}")+","+members+"}")
	}
	header := func(members string) string {
		return h.Header(strings.TrimSuffix(kittest.RS256Header, "}") + "," + members + "}")
	}
	shapes := map[string]string{
		"nesting":             claims(`"x":` + strings.Repeat("[", size/2) + strings.Repeat("]", size/2)),
		"nested objects":      claims(`"x":` + strings.Repeat(`{"":`, size/5) + "0" + strings.Repeat("}", size/5)),
		"nested pairs":        claims(`"x":` + strings.Repeat(`{"":0,"a":`, size/11) + "0" + strings.Repeat("}", size/11)),
		"many members":        claims(fill(size, func(i int) string { return shortName(i) + ":0," })),
		"many objects":        claims(`"x":[` + fill(size, func(int) string { return `{"a":0,"b":0},` }) + "]"),
		"many small objects":  claims(`"x":[` + strings.TrimSuffix(strings.Repeat("{},", size/3), ",") + "]"),
		"long string":         claims(`"x":"` + strings.Repeat("x", size) + `"`),
		"long name":           claims(`"` + strings.Repeat("x", size) + `":0`),
		"escapes":             claims(`"x":"` + strings.Repeat(`\u00e9`, size/6) + `"`),
		"escaped names":       claims(fill(size, func(i int) string { return fmt.Sprintf(`"\u%04x":0,`, 0x100+i) })),
		"numbers":             claims(`"x":[` + fill(size, func(i int) string { return fmt.Sprintf("1e%d,", i%300) }) + "]"),
		"long number":         claims(`"x":1` + strings.Repeat("0", size)),
		"near names":          claims(fill(size, func(i int) string { return fmt.Sprintf(`"su%d":0,`, i) })),
		"names beyond ASCII":  claims(fill(size, func(i int) string { return fmt.Sprintf(`"%c":0,`, rune(0x3000+i)) })),
		"small arrays":        claims(`"x":[` + strings.TrimSuffix(strings.Repeat("[],", size/3), ",") + "]"),
		"many audiences":      claims(`"aud":[` + strings.TrimSuffix(strings.Repeat(`"",`, size/3), ",") + "]"),
		"issuer of slashes":   kittest.SignRaw(t, h.RSA, kittest.RS256Header, kittest.ClaimsJSON(t, h.Claims(map[string]any{"iss": "https://x" + strings.Repeat("/", size)}))),
		"issuer of escapes":   kittest.SignRaw(t, h.RSA, kittest.RS256Header, kittest.ClaimsJSON(t, h.Claims(map[string]any{"iss": "https://x/" + strings.Repeat("%41", size/3)}))),
		"many header members": header(fill(11000, func(i int) string { return shortName(i) + ":0," })),
		"header nesting":      header(`"x":` + strings.Repeat("[", 5500) + strings.Repeat("]", 5500)),
		"header objects":      header(`"x":[` + fill(11000, func(int) string { return `{"a":0,"b":0},` }) + "]"),
		"header escaped kid":  h.Header(`{"alg":"RS256","kid":"` + strings.Repeat(`\u0061`, 1850) + `"}`),
	}
	handler := h.RequireSession(kittest.Nothing{})
	worst := struct{ bytes, objects uint64 }{}
	for name, token := range shapes {
		require.LessOrEqual(t, len(token), 16<<10, name)
		require.Greater(t, len(token), 14<<10, "%s: not at the limit", name)
		for way, r := range map[string]*http.Request{
			"bearer":         kittest.WithBearer(kittest.Get("/"), token),
			"session cookie": kittest.WithCookies(kittest.Get("/"), token, ""),
			"refresh cookie": kittest.WithCookies(kittest.Get("/"), "", token),
		} {
			w := kittest.Nothing{Fields: make(http.Header)}
			bytes, objects := cost(20, func() { handler.ServeHTTP(w, r) })
			assert.LessOrEqual(t, bytes, uint64(1<<20), "%s as %s", name, way)
			assert.LessOrEqual(t, objects, uint64(5000), "%s as %s", name, way)
			if bytes > worst.bytes {
				worst.bytes = bytes
				t.Logf("%s as %s: %d bytes, %d objects", name, way, bytes, objects)
			}
			if objects > worst.objects {
				worst.objects = objects
				t.Logf("%s as %s: %d bytes, %d objects", name, way, bytes, objects)
			}
		}
	}
	t.Logf("worst of %d shapes: %d bytes, %d objects", len(shapes), worst.bytes, worst.objects)
}
