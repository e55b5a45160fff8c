package guess_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Rule: guessing: against guessing the codes of one user: 10 guesses in ten minutes from one
// network, 50 a day from all strangers' networks; counted before the call.
// Rule: guessing: against locking a user out: a network that they signed in from has limits of
// its own, which no stranger can use up.
// Rule: guessing: 10 guesses in ten minutes, 50 a day, counted before the call.
// Rule: guessing: a guess is not given back if Descope said no, or for another user.
func TestThousandWrongCodesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own, other = "192.0.2.7", "198.51.100.1"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(24 * time.Hour)

		k.Project.Reset()
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Delay: time.Second, Times: -1})
		var wg sync.WaitGroup
		var refused, limited atomic.Int64
		for range 1000 {
			wg.Go(func() {
				res := kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
				switch res.StatusCode {
				case http.StatusUnauthorized:
					refused.Add(1)
				case http.StatusTooManyRequests:
					limited.Add(1)
					assert.LessOrEqual(t, kittest.RequireLimited(t, res), 10*time.Minute)
				default:
					assert.Fail(t, "unexpected", "status %d", res.StatusCode)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 10, refused.Load())
		assert.EqualValues(t, 990, limited.Load())
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath), "ten reach Descope")

		res := kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada))
		assert.Equal(t, http.StatusOK, res.StatusCode, "the user is not locked out on a network of yesterday")

		// The window opens again when Retry-After said so, and not before.
		k.Project.Reset()
		wait := kittest.RequireLimited(t, kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada)))
		kittest.Elapse(wait - 2*time.Second)
		kittest.RequireLimited(t, kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada)))
		kittest.Elapse(2 * time.Second)
		kittest.RequireProblem(t, kittest.Guess(k, other, kittest.Ada, kittest.WrongCode(k, kittest.Ada)), http.StatusUnauthorized, "invalid_code")
		assert.Equal(t, 1, k.Project.Requests(kittest.VerifyPath))
	})
}

// From any number of strangers' networks together fifty a day go through, and
// none of it stops the user on a network of their own.
//
// Rule: guessing: against guessing the codes of one user: 10 guesses in ten minutes from one
// network, 50 a day from all strangers' networks; counted before the call.
// Rule: guessing: against another address for each guess: the limit of the day; IPv6 by /64; no
// header is believed.
// Rule: guessing: against locking a user out: a network that they signed in from has limits of
// its own, which no stranger can use up.
// Rule: guessing: 10 guesses in ten minutes, 50 a day, counted before the call.
// Rule: guessing: a known network has its own day.
func TestFiftyGuessesADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		for day := range 3 {
			kittest.Elapse(time.Minute) // a code works once
			k.Project.Reset()
			var wg sync.WaitGroup
			for i := range 200 {
				wg.Go(func() {
					for range 6 {
						kittest.Guess(k, fmt.Sprintf("203.0.%d.%d", i/250, i%250+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
					}
				})
			}
			wg.Wait()
			assert.Equal(t, 50, k.Project.Requests(kittest.VerifyPath), "day %d", day)
			wait := kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", kittest.Ada, k.Project.Code(kittest.Ada)))
			assert.InDelta(t, 24*time.Hour, wait, float64(time.Minute))
			assert.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode, "day %d", day)
			kittest.Elapse(24*time.Hour - time.Minute)
		}
		// Another user is not concerned.
		k.Project.AddUser(descopetest.User{LoginID: "bob"})
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "203.0.113.9", "bob", k.Project.Code("bob")).StatusCode)
	})
}

// A network that the user once signed in from has ten guesses for itself, no more.
//
// Rule: guessing: against guessing the codes of one user: 10 guesses in ten minutes from one
// network, 50 a day from all strangers' networks; counted before the call.
func TestKnownNetworkIsLimitedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(time.Minute)
		k.Project.Reset()
		for range 30 {
			kittest.Guess(k, own, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
		// After 90 days without a sign-in it is a network like any other.
		kittest.Elapse(91 * 24 * time.Hour)
		for i := range 60 {
			kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		kittest.RequireLimited(t, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)))
	})
}

// A network that the user signed in from has fifty guesses a day as well, of its own.
//
// Rule: guessing: against guessing the codes of one user: 10 guesses in ten minutes from one
// network, 50 a day from all strangers' networks; counted before the call.
// Rule: guessing: a known network has its own day.
func TestFiftyGuessesADayFromAKnownNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		const own = "192.0.2.7"
		require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(time.Minute)
		k.Project.Reset()
		for range 24 * 6 {
			for range 11 {
				kittest.Guess(k, own, kittest.Ada, kittest.WrongCode(k, kittest.Ada))
			}
			kittest.Elapse(10*time.Minute - time.Second)
		}
		assert.Equal(t, 50, k.Project.Requests(kittest.VerifyPath))
		// Strangers have theirs, and the user theirs elsewhere.
		for i := range 60 {
			kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
		}
		assert.Equal(t, 100, k.Project.Requests(kittest.VerifyPath))
	})
}

// A network is known for ninety days after the last sign-in, not the first.
//
// Rule: guessing: against locking a user out: a network that they signed in from has limits of
// its own, which no stranger can use up.
// Rule: guessing: a network stays known for 90 days after the last sign-in.
func TestNetworkStaysKnown(t *testing.T) {
	for name, store := range map[string]func() descopehttp.AttemptStore{
		"memory": func() descopehttp.AttemptStore { return nil },
		"store":  func() descopehttp.AttemptStore { return newCountingStore() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.AttemptStore = store() })
				const own = "192.0.2.7"
				for range 6 {
					require.Equal(t, http.StatusOK, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
					kittest.Elapse(89 * 24 * time.Hour)
					for i := range 60 {
						kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
					}
					kittest.RequireLimited(t, kittest.Guess(k, "198.51.100.1", kittest.Ada, k.Project.Code(kittest.Ada)))
				}
				kittest.Elapse(91 * 24 * time.Hour)
				for i := range 60 {
					kittest.Guess(k, fmt.Sprintf("203.0.113.%d", i+1), kittest.Ada, kittest.WrongCode(k, kittest.Ada))
				}
				kittest.RequireLimited(t, kittest.Guess(k, own, kittest.Ada, k.Project.Code(kittest.Ada)))
			})
		})
	}
}

// However a login id is spelled, the count is one.
//
// Rule: guessing: against guessing with another spelling of the login id: trimmed, NFKC, lower
// case.
func TestSpellingsShareACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		spellings := []string{
			kittest.Ada, "ADA@example.com", "Ada@Example.COM", " " + kittest.Ada, kittest.Ada + "  ", "\u00a0" + kittest.Ada + "\u3000",
			"\uff41\uff44\uff41@example.com", "ada\uff20example.com", "\u24d0da@example.com", "A\uff24a@EXAMPLE.com",
		}
		for i := range 40 {
			kittest.Guess(k, "203.0.113.9", spellings[i%len(spellings)], "000000")
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
		for _, spelling := range spellings {
			kittest.RequireLimited(t, kittest.Guess(k, "203.0.113.9", spelling, "000000"))
		}
		// Composed and decomposed are one, too; another name is another.
		k.Project.Reset()
		for i := range 20 {
			kittest.Guess(k, "203.0.113.9", []string{"ren\u00e9", "rene\u0301"}[i%2], "000000")
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
		kittest.Guess(k, "203.0.113.9", "rene", "000000")
		assert.Equal(t, 11, k.Project.Requests(kittest.VerifyPath))
	})
}

// What counts as one network, and where its address comes from.
//
// Rule: guessing: against another address for each guess: the limit of the day; IPv6 by /64; no
// header is believed.
// Rule: guessing: IPv6 by /64.
func TestNetworks(t *testing.T) {
	forwarded := func(r *http.Request) netip.Addr {
		addr, _ := netip.ParseAddr(r.Header.Get("X-Real-Ip"))
		return addr
	}
	for _, tt := range []struct {
		name     string
		clientIP func(*http.Request) netip.Addr
		a, b     string // addresses, or values of X-Real-Ip
		same     bool
	}{
		{"one address", nil, "203.0.113.9", "203.0.113.9", true},
		{"neighbours", nil, "203.0.113.9", "203.0.113.10", false},
		{"IPv4 in IPv6", nil, "203.0.113.9", "::ffff:203.0.113.9", true},
		{"one /64", nil, "2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true},
		{"two /64", nil, "2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"a zone", nil, "fe80::1%eth0", "fe80::1%eth1", true},
		{"ClientIP, one", forwarded, "203.0.113.9", "203.0.113.9", true},
		{"ClientIP, two", forwarded, "203.0.113.9", "203.0.113.10", false},
		{"ClientIP that does not know", forwarded, "", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := kittest.New(t, func(c *descopehttp.Config) { c.ClientIP = tt.clientIP })
				for i := range 40 {
					r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000"}`)
					addr := []string{tt.a, tt.b}[i%2]
					if tt.clientIP != nil {
						r.Header.Set("X-Real-Ip", addr)
					} else {
						kittest.From(addr, r)
						// Anybody can write these, so by default nobody reads them.
						for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "True-Client-Ip", "Cf-Connecting-Ip"} {
							r.Header.Set(name, fmt.Sprintf("198.51.100.%d", i))
						}
					}
					kittest.Serve(k.Handler(), r)
				}
				assert.Equal(t, map[bool]int{true: 10, false: 20}[tt.same], k.Project.Requests(kittest.VerifyPath))
			})
		})
	}
	t.Run("no address", func(t *testing.T) {
		k := kittest.New(t)
		for range 40 {
			r := kittest.Post(kittest.VerifyPath, `{"loginId":"`+kittest.Ada+`","code":"000000"}`)
			r.RemoteAddr = "@"
			kittest.Serve(k.Handler(), r)
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
	})
}

// To whoever guesses, a user and nobody look alike: before the limit and beyond.
//
// Rule: guessing: against learning who is a user: a wrong code and an unknown user get the same
// answer, at the limit too.
func TestUnknownUsersLookAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.Configure(func(s *descopetest.Settings) {
			s.UnknownUser = descopetest.Failure{Status: 400, Code: "E062108", Description: "User not found"}
			s.WrongCode = descopetest.Failure{Status: 401, Code: "E061102", Description: "Invalid code"}
		})
		answer := func(loginID string) (int, http.Header, string) {
			res := kittest.Guess(k, "203.0.113.9", loginID, kittest.WrongCode(k, loginID))
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			return res.StatusCode, res.Header, string(body)
		}
		for i := range 15 {
			status, header, body := answer(kittest.Ada)
			otherStatus, otherHeader, otherBody := answer("nobody@example.com")
			require.Equal(t, status, otherStatus, i)
			require.Equal(t, header, otherHeader, i)
			require.Equal(t, body, otherBody, i)
		}
	})
}

// A step-up is a guess like any other.
//
// Rule: guessing: against guessing by way of a step-up or a second factor: counted alike; the
// token presented must be the same user's.
func TestStepUpIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		b := kittest.SignIn(k, kittest.Ada)
		for range 30 {
			body := `{"loginId":"` + kittest.Ada + `","code":"` + kittest.WrongCode(k, kittest.Ada) + `","loginOptions":{"stepup":true}}`
			b.Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, body)))
		}
		assert.Equal(t, 10, k.Project.Requests(kittest.VerifyPath))
	})
}

// A right code that is somebody else's than the token beside it is a guess, too.
//
// Rule: guessing: against guessing by way of a step-up or a second factor: counted alike; the
// token presented must be the same user's.
// Rule: guessing: a guess is not given back if Descope said no, or for another user.
func TestCodeOfAnotherUserIsAGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		k.Project.AddUser(descopetest.User{LoginID: "bob"})
		b := kittest.SignIn(k, kittest.Ada)
		tokens := k.Project.SignIn("bob")
		k.Project.Fail(kittest.VerifyPath, descopetest.Fault{Status: 200, Times: -1,
			Body: `{"sessionJwt":"` + tokens.Session + `","refreshJwt":"` + tokens.Refresh + `"}`})
		for range 10 {
			res := b.Copied().Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`)))
			kittest.RequireProblem(t, res, http.StatusUnauthorized, "other_user")
		}
		kittest.RequireLimited(t, b.Copied().Do(k.Handler(), kittest.From("203.0.113.9", kittest.Post(kittest.VerifyPath, `{"loginId":"bob","code":"000000","loginOptions":{"mfa":true}}`))))
	})
}

// Rule: guessing: against floods of sign-ups: 60 in ten minutes from one network.
func TestSignUpsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.SignUpsPerNetwork = 10 })
		n := 0
		signUp := func(network string) *http.Response {
			n++
			return kittest.Serve(k.Handler(), kittest.From(network, kittest.Post(kittest.SignUpPath, fmt.Sprintf(`{"loginId":"user%d"}`, n))))
		}
		for range 10 {
			require.Equal(t, http.StatusOK, signUp("203.0.113.9").StatusCode)
		}
		wait := kittest.RequireLimited(t, signUp("203.0.113.9"))
		assert.Equal(t, 10*time.Minute, wait)
		assert.Equal(t, 10, k.Project.Requests(kittest.SignUpPath))
		assert.Equal(t, http.StatusOK, signUp("203.0.113.10").StatusCode)
		kittest.Elapse(wait)
		assert.Equal(t, http.StatusOK, signUp("203.0.113.9").StatusCode)
	})
}

// Codes for ever new login ids are counted for the network that they come from, and right
// ones are not: an office signs in at nine.
//
// Rule: guessing: against wrong codes for ever new login ids from one network: 100 in ten
// minutes, whatever the login ids; right ones do not count.
func TestWrongCodesFromOneNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) { c.Limits.GuessesPerNetwork = 20 })
		k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
		const office = "203.0.113.9"
		for range 40 {
			kittest.Elapse(time.Second)
			require.Equal(t, http.StatusOK, kittest.Guess(k, office, kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		}
		for i := range 20 {
			kittest.Elapse(time.Second)
			require.Equal(t, http.StatusUnauthorized, kittest.Guess(k, office, fmt.Sprint("nobody", i), "000000").StatusCode)
		}
		calls := k.Project.Requests(kittest.VerifyPath)
		wait := kittest.RequireLimited(t, kittest.Guess(k, office, "somebody", "000000"))
		assert.Equal(t, calls, k.Project.Requests(kittest.VerifyPath), "Descope is not asked")
		assert.Equal(t, http.StatusOK, kittest.Guess(k, "203.0.113.10", kittest.Ada, k.Project.Code(kittest.Ada)).StatusCode)
		kittest.Elapse(wait)
		assert.Equal(t, http.StatusUnauthorized, kittest.Guess(k, office, "somebody", "000000").StatusCode)
	})
}

// A classroom behind one address signs up within five minutes.
func TestClassroom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t)
		post := func(path, body string) int {
			return kittest.Serve(k.Handler(), kittest.From("203.0.113.9", kittest.Post(path, body))).StatusCode
		}
		for i := range 30 {
			who := fmt.Sprintf("pupil%d", i)
			require.Equal(t, http.StatusOK, post(kittest.SignUpPath, `{"loginId":"`+who+`"}`))
			kittest.Elapse(5 * time.Second)
			require.Equal(t, http.StatusUnauthorized, post(kittest.VerifyPath, `{"loginId":"`+who+`","code":"`+kittest.WrongCode(k, who)+`"}`), "everybody mistypes once")
			require.Equal(t, http.StatusOK, post(kittest.VerifyPath, `{"loginId":"`+who+`","code":"`+k.Project.Code(who)+`"}`))
			kittest.Elapse(5 * time.Second)
		}
	})
}

// A header is believed from trusted proxies only, from the right, and what does not parse is
// never skipped.
func TestClientIPFromHeader(t *testing.T) {
	lan, ip6, mapped := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::ffff:192.0.2.0/120")
	const none = "invalid IP"
	for name, tt := range map[string]struct {
		peer  string
		lines []string
		want  string
	}{
		"one proxy":                   {"10.0.0.1:1", []string{"203.0.113.7"}, "203.0.113.7"},
		"the client's own words":      {"10.0.0.1:1", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"two proxies":                 {"10.0.0.1:1", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"two lines":                   {"10.0.0.1:1", []string{"198.51.100.1", "203.0.113.7,10.0.0.2"}, "203.0.113.7"},
		"a stranger's header":         {"198.51.100.9:1", []string{"203.0.113.7"}, "198.51.100.9"},
		"with a port":                 {"10.0.0.1:1", []string{"203.0.113.7:50000"}, "203.0.113.7"},
		"in brackets":                 {"10.0.0.1:1", []string{"[2001:db8::7]"}, "2001:db8::7"},
		"in brackets with a port":     {"10.0.0.1:1", []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		"mapped":                      {"[::ffff:10.0.0.1]:1", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"over IPv6":                   {"[fd00::1]:1", []string{"203.0.113.7"}, "203.0.113.7"},
		"nobody but proxies":          {"10.0.0.1:1", []string{"10.0.0.3"}, "10.0.0.3"},
		"junk":                        {"10.0.0.1:1", []string{"203.0.113.7, unknown"}, none},
		"junk behind a trusted proxy": {"10.0.0.1:1", []string{"junk, 10.0.0.2"}, none},
		"an empty entry":              {"10.0.0.1:1", []string{"203.0.113.7,"}, none},
		"no header":                   {"10.0.0.1:1", nil, none},
		"a socket without addresses":  {"@", []string{"203.0.113.7"}, none},
		"with a zone":                 {"[fd00::1%eth0]:1", []string{"fe80::7%eth0"}, "fe80::7"},
		"half a bracket":              {"10.0.0.1:1", []string{"[2001:db8::7"}, none},
		"the other half":              {"10.0.0.1:1", []string{"2001:db8::7]"}, none},
		"a port that is none":         {"10.0.0.1:1", []string{"203.0.113.7:http"}, none},
		"of RFC 7239":                 {"10.0.0.1:1", []string{`for="[2001:db8::7]:443"`}, none},
		"an empty line":               {"10.0.0.1:1", []string{"203.0.113.7", ""}, none},
		"mapped prefix":               {"192.0.2.1:1", []string{"203.0.113.7"}, "203.0.113.7"},
		"beside the mapped prefix":    {"192.0.3.1:1", []string{"203.0.113.7"}, "192.0.3.1"},
	} {
		r := kittest.Get("/")
		r.RemoteAddr, r.Header["X-Forwarded-For"] = tt.peer, tt.lines
		assert.Equal(t, tt.want, descopehttp.ClientIPFromHeader("X-Forwarded-For", lan, ip6, mapped)(r).String(), name)
	}
	assert.Panics(t, func() { descopehttp.ClientIPFromHeader("X-Real-IP") })
	assert.Panics(t, func() { descopehttp.ClientIPFromHeader("X-Real-IP", lan, netip.Prefix{}) }, "nobody would be believed, without a word")
	assert.Panics(t, func() { descopehttp.ClientIPFromHeader("forwarded", lan) })
	assert.Panics(t, func() { descopehttp.ClientIPFromHeader("", lan) })

	proxies := []netip.Prefix{lan, mapped}
	clientIP := descopehttp.ClientIPFromHeader("X-Real-IP", proxies...)
	assert.Equal(t, []netip.Prefix{lan, mapped}, proxies, "whose it is")
	proxies[0] = ip6
	r := kittest.Get("/")
	r.RemoteAddr = "10.0.0.1:1"
	r.Header.Set("X-Real-IP", "203.0.113.7")
	assert.Equal(t, "203.0.113.7", clientIP(r).String())
}

// Clients whose address cannot be told share one limit: that is logged, once a minute.
func TestUnknownAddressIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kittest.New(t, func(c *descopehttp.Config) {
			c.ClientIP = func(r *http.Request) netip.Addr { a, _ := netip.ParseAddr(r.Header.Get("X-Real-IP")); return a }
		})
		lines := func() int { return strings.Count(k.Logs.String(), "ClientIPFromHeader") }
		guess := func(address string) {
			r := kittest.Post(kittest.SignUpPath, `{"loginId":"a"}`)
			r.Header.Set("X-Real-IP", address)
			kittest.Serve(k.Handler(), r)
		}
		guess("203.0.113.7")
		assert.Zero(t, lines())
		for range 5 {
			guess("203.0.113.7:50000")
		}
		assert.Equal(t, 1, lines())
		kittest.Elapse(time.Minute)
		guess("")
		assert.Equal(t, 2, lines())
		assert.NotContains(t, k.Logs.String(), "203.0.113.7")
	})
}
