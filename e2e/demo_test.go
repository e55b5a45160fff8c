package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

// From the printed address to the account page.
func TestDemoSignInAsAda(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url)
	b.click("Sign in")
	b.click("Sign in as Ada")
	b.at("/account/")
	b.sees("Ada Lovelace")
	assert.LessOrEqual(t, b.inputs, 4)

	b.open(s.url + "/payout")
	b.sees("DE89") // her code was typed a moment ago

	// Each code works once, and the demo's app knows which she has used.
	b.click("Sign out")
	b.click("Sign in again")
	b.click("Sign in as Ada")
	b.at("/account/")
	b.sees("Ada Lovelace")
}

// The same for somebody new, whose authenticator app the demo plays.
func TestDemoSignUp(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url)
	b.click("Sign up")
	b.fill("Login ID", "grace@example.com")
	b.enter()
	p := scan(b)
	assert.Equal(t, "grace@example.com", p.key.AccountName())
	shown := until[string](b, `document.querySelector("#app-code")?.innerText`)
	assert.Equal(t, p.code(t), strings.ReplaceAll(shown, " ", ""))
	b.click("Use this code")
	b.at("/account/")
	b.sees("grace@example.com")
	assert.LessOrEqual(t, b.inputs, 4)
}

// The code of whoever is typed in, for how long it is good, and nothing for nobody.
func TestDemoShowsTheCode(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url + "/account/signin")
	b.fill("Login ID", "nobody@example.com")
	until[bool](b, `performance.getEntriesByType("resource").some((e) => e.name.includes("nobody%%40"))`)
	assert.False(t, evaluate[bool](b, `document.querySelector("#app-shows").checkVisibility()`))
	b.fill("Login ID", kittest.Ada)
	b.sees("This is what the app of " + kittest.Ada + " shows:")
	assert.Regexp(t, `^\d{3} \d{3}$`, evaluate[string](b, `document.querySelector("#app-code").innerText`))
	left := until[string](b, `document.querySelector("#app-left").innerText`)
	until[bool](b, `document.querySelector("#app-left").innerText !== %s`, left) // it counts down

	// A name that somebody else's name server leads here.
	b.open(strings.Replace(s.url, "127.0.0.1", "evil.localhost", 1) + "/account/icon.svg")
	assert.Equal(t, http.StatusMisdirectedRequest, evaluate[int](b, `fetch("/demo/code?loginId=ada@example.com").then((r) => r.status)`))
}

// The four buttons of the panel show what they say, on a page that is loaded once.
func TestDemoPanel(t *testing.T) {
	t.Parallel()
	s := startDemo(t)
	b := newBrowser(t)
	b.open(s.url + "/account/signin")
	b.click("Sign in as Ada")
	b.at("/account/")
	evaluate[bool](b, `window.sameDocument = true`)
	result := func(pattern string) []string {
		t.Helper()
		return until[[]string](b, `document.querySelector("#result").innerText.match(new RegExp(%s))`, pattern)
	}
	figure := func(id string) int { return evaluate[int](b, `Number(document.querySelector("#" + %s).innerText)`, id) }
	until[bool](b, `document.querySelector("#answered").innerText > 2`)
	assert.Zero(t, figure("calls"), "a valid session costs no call")

	b.click("Expire my session and send 200 requests")
	result(`^200 requests at once, and the session had expired: 200 × 200, one refresh, in \d+ ms\.$`)
	assert.Equal(t, 1, figure("renewals"))
	assert.GreaterOrEqual(t, figure("answered"), 200)

	b.click("Rotate the keys")
	result(`The session at hand: 200\. The next one, signed with the new key: 200, after one fetch of the keys\.$`)
	b.sees("fetched the keys")

	b.click("Take Descope away for 20 s")
	result(`^Descope is away\.`)
	other := b.another()
	other.open(s.url + "/account/")
	other.sees("You are still signed in.")
	result(`^Descope was away for 20 s\. \d+ requests were answered meanwhile`)
	assert.Len(t, b.cookies(), 2)

	b.click("Sign me out on another device")
	result(`^You have signed out everywhere, on another device\.`)
	b.sees("you are signed out here, too. Sign in again.")
	assert.Empty(t, b.cookies())
	assert.True(t, evaluate[bool](b, `window.sameDocument === true`), "the page was not loaded anew")
	b.click("Sign in again")
	b.at("/account/signin")
}
