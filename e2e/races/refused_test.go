package races_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A userTrouble is how Descope refuses all that is about one user, who was locked, disabled or
// deleted, or has been idle, in words that nobody here may know.
type userTrouble struct {
	Refusal descopetest.Failure
	Rotate  bool
	Shared  bool     // through a store
	Asks    []string // in turn, of the user's and of the others'
	Gap     time.Duration
}

func userTroubles() *rapid.Generator[userTrouble] {
	code := rapid.OneOf(
		rapid.SampledFrom([]string{"E061004", "E061005", "E061102", "E061103", "E061104", "E062107", "E062108", "E064001", "E011003"}),
		rapid.StringMatching(`E0[67][0-9]{4}`), rapid.StringMatching(`E1[0-25-9][0-9]{4}`))
	return rapid.Custom(func(t *rapid.T) userTrouble {
		return userTrouble{
			Refusal: descopetest.Failure{
				Status: rapid.SampledFrom([]int{400, 401, 402, 403, 404, 409, 410, 422, 423, 429, 451}).Draw(t, "status"),
				Code:   code.Draw(t, "code"),
			},
			Rotate: rapid.Bool().Draw(t, "rotate"),
			Shared: rapid.Bool().Draw(t, "shared"),
			Asks: rapid.SliceOfN(rapid.SampledFrom([]string{"page", "page", "refresh", "refresh", "try-refresh", "me", "sign in", "step up", "update", "select"}), 6, 14).
				Draw(t, "asks"),
			Gap: rapid.SampledFrom([]time.Duration{0, ms, sec, 4 * sec}).Draw(t, "gap"),
		}
	})
}

// endsSignIns reports whether it ends a sign-in. A code of requests says that the request
// is wrong, and nothing about the user, and what is said of attempts passes.
func (x userTrouble) endsSignIns() bool {
	return !strings.HasPrefix(x.Refusal.Code, "E0110") && x.Refusal.Code != "E061103" && x.Refusal.Status != http.StatusTooManyRequests
}

// A visitor is a user at a browser with a network of their own.
type visitor struct {
	*kittest.Browser
	loginID, network string
}

// ask makes one request.
func (v *visitor) ask(k *kittest.Kit, what string) *http.Response {
	code := fmt.Sprintf(`"loginId":%q,"code":%q`, v.loginID, k.Project.Code(v.loginID))
	h, r := k.Handler(), (*http.Request)(nil)
	switch what {
	case "page":
		h, r = k.RequireSession(new(kittest.Spy)), kittest.Get("/")
	case "refresh":
		r = kittest.Post(kittest.RefreshPath, "{}")
	case "try-refresh":
		r = kittest.Post(kittest.TryRefreshPath, "{}")
	case "me":
		r = kittest.Get(kittest.MePath)
	case "sign in":
		r = kittest.Post(kittest.VerifyPath, "{"+code+"}")
	case "step up":
		r = kittest.Post(kittest.VerifyPath, "{"+code+`,"loginOptions":{"stepup":true}}`)
	case "update":
		r = kittest.Post(kittest.UpdatePath, fmt.Sprintf(`{"loginId":%q}`, v.loginID))
	case "select":
		r = kittest.Post(kittest.SelectPath, `{"tenant":"`+tenant+`"}`)
	}
	return v.Do(h, kittest.From(v.network, r))
}

// play has one user be refused while others go on, and returns what was wrong.
func (x userTrouble) play(t *testing.T) (wrong []string) {
	synctest.Test(t, func(t *testing.T) {
		store := kittest.NewMemoryStore()
		k := kittest.New(t, func(c *descopehttp.Config) {
			if x.Shared {
				c.RefreshStore = store
			}
		})
		k.Project.Configure(func(s *descopetest.Settings) {
			s.Alg, s.RotateRefresh, s.AllowCodeReuse = "ES256", x.Rotate, true
		})
		people := make([]*visitor, 3)
		for i := range people {
			loginID := fmt.Sprintf("user%d@example.com", i)
			k.Project.AddUser(descopetest.User{LoginID: loginID, Tenants: map[string]descopetest.Tenant{tenant: {}}})
			people[i] = &visitor{kittest.SignIn(k, loginID), loginID, fmt.Sprintf("198.51.100.%d", i+1)}
		}
		kittest.Elapse(kittest.Past)
		for _, v := range people {
			v.ask(k, "page") // a store that is new is not believed for a while
		}
		kittest.Elapse(kittest.Past)
		k.Project.Refuse(people[0].loginID, x.Refusal)
		for round, what := range x.Asks {
			people[0].ask(k, what)
			for i, v := range people[1:] {
				what := x.Asks[(round+i+1)%len(x.Asks)]
				if res := v.ask(k, what); res.StatusCode != http.StatusOK {
					wrong = append(wrong, fmt.Sprintf("%s asked for %s: %d %s", v.loginID, what, res.StatusCode, kittest.BodyOf(t, res)))
				}
			}
			kittest.Elapse(x.Gap)
		}
		// A page with Descope's browser client asks until it is told.
		for range 8 {
			res := people[0].ask(k, "refresh")
			if res.StatusCode == http.StatusUnauthorized {
				break
			}
			kittest.Elapse(11 * time.Second)
			for _, what := range []string{"sign in", "refresh"} {
				if res := people[1].ask(k, what); res.StatusCode != http.StatusOK {
					wrong = append(wrong, fmt.Sprintf("others' %s: %d", what, res.StatusCode))
				}
			}
		}
		if left := people[0].Refresh; x.endsSignIns() && left != "" {
			wrong = append(wrong, "the user who was refused is not signed out")
		}
		if lines := strings.Count(k.Logs.String(), "level=ERROR"); lines > 8 {
			wrong = append(wrong, fmt.Sprintf("%d Error lines", lines))
		}
		require.NoError(t, k.Wait(t.Context()))
	})
	return wrong
}

// One user who is locked, disabled, idle or gone, by whatever status and code: nobody else
// notices, and the browser ends signed out.
//
// Rule: renewing: against one user's lock or refusal at Descope that closes sign-in for all:
// only E130429, or a 429 without a code of Descope, is a rate limit.
func TestTroubleOfOneUser(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := userTroubles().Draw(rt, "trouble")
		for _, wrong := range x.play(t) {
			rt.Error(wrong)
		}
	})
}
