package descope_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A slow client takes its own time, and not Descope's: the end of that counts as an
// outage, and stops everybody.
//
// Rule: guessing: a client cannot bring an outage about, nor hide one.
func TestSlowBodiesAreNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.SignUpPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
		for i := range 6 {
			body := io.MultiReader(strings.NewReader(fmt.Sprintf(`{"loginId":"u%d"`, i)), kittest.Reader(func([]byte) (int, error) {
				kittest.Elapse(9 * time.Second)
				return 0, io.EOF
			}), strings.NewReader("}"))
			r := kittest.Post(kittest.SignUpPath, "")
			r.Body = io.NopCloser(body)
			assert.Equal(t, http.StatusOK, kittest.Serve(k.Handler(), r).StatusCode)
		}
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "192.0.2.7", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
	})
}

// Who hangs up in an outage says nothing about it.
//
// Rule: guessing: a client cannot bring an outage about, nor hide one.
func TestHangingUpDoesNotOpenTheGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		require.NoError(t, k.Ready(t.Context()))
		k.Project.Fail(kittest.MePath, descopetest.Fault{Delay: time.Minute, Times: -1})
		for range 5 {
			r := kittest.Get(kittest.MePath)
			ctx, hangUp := context.WithCancel(r.Context())
			time.AfterFunc(time.Second, hangUp)
			b.Do(k.Handler(), r.WithContext(ctx))
			b.Do(k.Handler(), kittest.Get(kittest.MePath))
		}
		began := time.Now()
		b.Do(k.Handler(), kittest.Get(kittest.MePath))
		assert.Less(t, time.Since(began), time.Second, "fails fast")
	})
}
