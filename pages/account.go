package pages

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp"
)

func (v *visit) account() {
	if !v.authenticate() {
		return
	}
	v.notice("replaced")
	if err := v.loadAccount(); isOver(err) {
		// The session token is good for a while still. Nobody is sent to sign in, where the same
		// cookies would lead back here.
		v.view.Error, v.view.Focus = v.p.texts["account.ended"], "error"
	}
	v.show(http.StatusOK, "account")
}

// loadAccount asks Descope for what the account page shows. The page is there without.
func (v *visit) loadAccount() error {
	err := v.loadUser()
	if err == nil {
		v.view.SignIns = v.signIns()
	}
	return err
}

func (v *visit) loadUser() error {
	user, err := v.p.auth.User(v.w, v.r)
	if err != nil {
		return err
	}
	v.view.User = user
	if len(user.LoginIDs) > 0 {
		v.view.LoginID = user.LoginIDs[0]
	}
	return nil
}

const shownSignIns = 5

// signIns has the flow answer that clients call: it is in no other form, and asking it costs
// no connection.
func (v *visit) signIns() []Login {
	r := v.r.Clone(v.r.Context())
	r.Method, r.URL, r.Body = http.MethodGet, &url.URL{Path: "/v1/auth/me/history"}, http.NoBody
	answer := captured{header: make(http.Header)}
	v.p.flows.ServeHTTP(&answer, r)
	var entries []struct {
		LoginTime         int64 // Unix seconds
		City, Country, IP string
	}
	if answer.status != http.StatusOK || json.Unmarshal(answer.body.Bytes(), &entries) != nil {
		return nil
	}
	var list []Login
	for _, e := range entries[:min(len(entries), shownSignIns)] {
		place := strings.Trim(e.City+", "+e.Country, ", ")
		list = append(list, Login{Time: time.Unix(e.LoginTime, 0), Place: place, Address: e.IP})
	}
	return list
}

// captured is an answer that goes nowhere.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (c *captured) Header() http.Header { return c.header }

// WriteHeader implements [http.ResponseWriter].
func (c *captured) WriteHeader(status int) { c.status = status }

// Write implements [http.ResponseWriter].
func (c *captured) Write(b []byte) (int, error) { return c.body.Write(b) }

// toAccount is for who opens the address of a form.
func (v *visit) toAccount() { v.to("", nil) }

// signOut ends the session. The cookies are gone whatever Descope says.
func (v *visit) signOut() {
	err := v.p.auth.SignOut(v.w, v.r)
	switch {
	case errors.Is(err, descopehttp.ErrCrossOrigin):
		v.refused(problemOf(err))
	case err != nil:
		v.to("signed-out", url.Values{"notice": {"untold"}})
	default:
		v.to("signed-out", nil)
	}
}

func (v *visit) signOutEverywhere() {
	err := v.p.auth.SignOutEverywhere(v.w, v.r)
	switch {
	case err == nil:
		v.to("signed-out", url.Values{"notice": {"everywhere"}})
	case !v.instead(err):
		if v.authenticate() {
			_ = v.loadAccount()
			v.fail("account", problemOf(err))
		}
	}
}

func (v *visit) signedOutPage() {
	if v.view.Session != nil {
		v.to("", nil)
		return
	}
	v.view.Notice = v.p.texts["notice.out"]
	v.notice("untold", "everywhere")
	v.show(http.StatusOK, "signedout")
}
