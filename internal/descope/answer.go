package descope

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// asJSON returns an object or an array as strict JSON. Descope's envelopes are taken
// leniently, because the call may have spent a token: of a duplicate name the last
// counts, and half a character becomes U+FFFD. The tokens inside are judged strictly.
func asJSON(body []byte) (jsontext.Value, bool) {
	v := jsontext.Value(body)
	if kind := v.Kind(); kind != '{' && kind != '[' {
		return nil, false
	}
	if v.IsValid() {
		return v, true
	}
	var content any
	if json.Unmarshal(body, &content, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return nil, false
	}
	strict, err := json.Marshal(content, json.Deterministic(true))
	return strict, err == nil
}

// A NewKey is the key in an answer to a sign-up or an update.
type NewKey struct {
	ProvisioningURL string
	Key             string
	Image           []byte // PNG; nil if it does not decode
}

// NewKey reads it.
func (a *Answer) NewKey() NewKey {
	var body struct {
		ProvisioningURL string `json:"provisioningURL"`
		Image           string `json:"image"`
		Key             string `json:"key"`
	}
	_ = json.Unmarshal(a.Body, &body) // CheckNewKey has found a key in it
	key := NewKey{ProvisioningURL: body.ProvisioningURL, Key: body.Key}
	key.Image, _ = base64.StdEncoding.DecodeString(body.Image) // it can be typed as well
	return key
}

// CheckNewKey checks that an answer to a sign-up or an update has a key in it. The
// error is "cannot tell".
func (a *Answer) CheckNewKey() error {
	var body struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(a.Body, &body) != nil || body.Key == "" {
		return problem.Unavailable.Because("Descope's answer has no key")
	}
	return nil
}

// A User is what answers say of a user.
type User struct {
	ID       string   `json:"userId"`
	LoginIDs []string `json:"loginIds"`
	Name     string   `json:"name"`
	Email    string   `json:"email"`
	Phone    string   `json:"phone"`
}

// User returns the user that an answer of PathMe is about. The error is "cannot tell".
func (a *Answer) User() (*User, error) {
	var user User
	if json.Unmarshal(a.Body, &user) != nil || user.LoginIDs == nil {
		return nil, problem.Unavailable.Because("Descope's answer has an unexpected form")
	}
	return &user, nil
}

// SignedInUser returns what an answer to a sign-in says of the user, and whether it is the
// first sign-in. It is for the application to read: what is missing stays empty.
func SignedInUser(body jsontext.Value) (user User, firstSeen bool) {
	var answer struct {
		User      jsontext.Value `json:"user"`
		FirstSeen bool           `json:"firstSeen"`
	}
	_ = json.Unmarshal(body, &answer)
	_ = json.Unmarshal(answer.User, &user)
	return user, answer.FirstSeen
}

// Tokens is an answer that signs somebody in: sign-in, refresh, or another
// tenant selected. Only the two tokens are understood; all other members are
// passed on as they came.
type Tokens struct {
	Session, Refresh string         // "" if the answer has none
	Idle             time.Duration  // until a refresh has to come, or else the user counts as inactive; 0: never
	Body             jsontext.Value // with both tokens empty
}

// Tokens finds the tokens in an answer: in the body, or, in projects that
// deliver them as cookies, in Set-Cookie under the names that the body announces, or
// else under Descope's own or those that are configured.
// They are not judged. The error, "cannot tell", says that the answer is no object.
func (a *Answer) Tokens() (*Tokens, error) {
	var body struct {
		SessionJWT        string `json:"sessionJwt"`
		RefreshJWT        string `json:"refreshJwt"`
		CookieName        string `json:"cookieName"`
		SessionCookieName string `json:"sessionCookieName"`

		NextRefreshSeconds jsontext.Value `json:"nextRefreshSeconds"`
	}
	if json.Unmarshal(a.Body, &body) != nil {
		return nil, problem.Unavailable.Because("Descope's answer has an unexpected form")
	}
	rest, err := WithTokens(a.Body, "", "") // answers are remembered, and tokens are large
	if err != nil {
		return nil, err
	}
	t := &Tokens{Session: body.SessionJWT, Refresh: body.RefreshJWT, Idle: secondsOf(body.NextRefreshSeconds), Body: rest}
	for _, c := range a.cookies {
		switch {
		case a.isNamed(c, body.SessionCookieName, token.SessionDRN):
			t.Session = cmp.Or(t.Session, c.Value)
		case a.isNamed(c, body.CookieName, token.RefreshDRN):
			t.Refresh = cmp.Or(t.Refresh, c.Value)
		}
	}
	return t, nil
}

func (a *Answer) isNamed(c *http.Cookie, announced, kind string) bool {
	if announced != "" {
		return c.Name == announced
	}
	return a.names.Kind(c.Name) == kind
}

// secondsOf reads a number of seconds, also from a string. What is none counts as 0: the
// tokens beside it must not be lost for it.
func secondsOf(v jsontext.Value) time.Duration {
	const most = 365 * 24 * time.Hour
	seconds, err := strconv.ParseFloat(strings.Trim(string(v), `"`), 64)
	if err != nil || !(seconds > 0) {
		return 0
	}
	return time.Duration(min(seconds, most.Seconds()) * float64(time.Second))
}

// WithTokens returns the JSON object body with its two tokens replaced, every
// other member and their order kept.
func WithTokens(body jsontext.Value, session, refresh string) (jsontext.Value, error) {
	var members orderedObject
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, problem.Unavailable.Because("Descope's answer has an unexpected form")
	}
	members.set("sessionJwt", session)
	members.set("refreshJwt", refresh)
	return json.Marshal(&members)
}

// orderedObject is a JSON object as a list of members.
type orderedObject []member

type member struct {
	name  string
	value jsontext.Value
}

func (o *orderedObject) set(name, value string) {
	quoted, _ := jsontext.AppendQuote(nil, value)
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = quoted
			return
		}
	}
	*o = append(*o, member{name, quoted})
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (o *orderedObject) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	return token.EachMember(dec, func(quoted jsontext.Value) error {
		name, err := jsontext.AppendUnquote(nil, quoted)
		if err != nil {
			return err
		}
		value, err := dec.ReadValue()
		*o = append(*o, member{string(name), value.Clone()})
		return err
	})
}

// MarshalJSONTo implements [json.MarshalerTo].
func (o *orderedObject) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, m := range *o {
		if err := enc.WriteToken(jsontext.String(m.name)); err != nil {
			return err
		}
		if err := enc.WriteValue(m.value); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}
