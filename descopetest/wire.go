package descopetest

import (
	"bytes"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody bounds the body of a request.
const maxBody = 64 << 10

// An answer is a whole response. Calls return one instead of writing it, so
// that a [Fault] can lose it after the call was carried out.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// reply is the answer that holds v. Empty values are written, not left out,
// and a missing list is [], as Descope does.
func reply(status int, v any) answer {
	// Names of users come from tests; odd ones must not become a panic here.
	body, err := json.Marshal(v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("descopetest: encoding an answer: " + err.Error())
	}
	return answer{status, http.Header{"Content-Type": {"application/json"}}, body}
}

func (a answer) writeTo(w http.ResponseWriter) {
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	w.Write(a.body)
}

// A refusal is a Failure and what it says about this call.
type refusal struct {
	Failure
	message string
}

// because returns the refusal with message, or with the Failure's own text.
func (f Failure) because(message string) *refusal {
	if message == "" {
		message = f.Description
	}
	return &refusal{f, message}
}

func (f *refusal) answer() answer {
	a := reply(f.Status, struct {
		Code        string `json:"errorCode"`
		Description string `json:"errorDescription"`
		Message     string `json:"errorMessage"`
		Repeated    string `json:"message"`
	}{f.Code, f.Description, f.message, f.message})
	if f.Status == http.StatusTooManyRequests {
		a.header.Set("Retry-After", "60")
	}
	return a
}

// decode reads the JSON of a request into v. No body at all is an empty
// object, as Descope's Go client sends it. Unknown names are ignored.
func decode(body []byte, v any) *refusal {
	if len(body) > maxBody {
		return invalidRequest.because("the body is too large")
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return invalidRequest.because("the body is not the JSON of this call")
	}
	return nil
}

// A sessionAnswer is what calls that issue or end tokens answer.
type sessionAnswer struct {
	tokenAnswer
	User        *userAnswer `json:"user"`
	FirstSeen   bool        `json:"firstSeen"`
	IDPResponse *struct{}   `json:"idpResponse"`
	UnsavedSSO  bool        `json:"unsavedSSO"`
}

// full is t with what Descope leaves out of no answer but that of try-refresh.
func (t tokenAnswer) full() tokenAnswer {
	if t.Claims == nil {
		t.Claims = jsontext.Value("{}")
	}
	return t
}

// A tokenAnswer is the part of it that try-refresh answers, too.
type tokenAnswer struct {
	SessionJWT          string         `json:"sessionJwt"`
	RefreshJWT          string         `json:"refreshJwt"`
	CookieDomain        string         `json:"cookieDomain"`
	CookiePath          string         `json:"cookiePath"`
	CookieMaxAge        int64          `json:"cookieMaxAge"`
	CookieExpiration    int64          `json:"cookieExpiration"`
	SessionExpiration   int64          `json:"sessionExpiration"`
	Claims              jsontext.Value `json:"claims"`
	ExternalToken       string         `json:"externalToken"`
	TenantSSOID         string         `json:"tenantSSOID"`
	TrustedDeviceJWT    string         `json:"trustedDeviceJwt"`
	NextRefreshSeconds  int64          `json:"nextRefreshSeconds"`
	CookieName          string         `json:"cookieName"`
	SessionCookieName   string         `json:"sessionCookieName"`
	SessionCookieDomain string         `json:"sessionCookieDomain"`
}

// tokens returns the body for m, and the cookies if they carry the tokens.
func (m minted) tokens(s *Settings) (tokenAnswer, http.Header) {
	now := time.Now()
	t := s.cookies()
	t.SessionJWT, t.RefreshJWT = m.session, m.refresh
	t.CookieMaxAge, t.CookieExpiration = m.refreshExpires-now.Unix(), m.refreshExpires
	t.SessionExpiration = m.sessionExpires
	t.NextRefreshSeconds = int64(s.InactivityTimeout / time.Second)
	if !s.TokensInCookies {
		return t, nil
	}
	t.SessionJWT, t.RefreshJWT, t.Claims = "", "", m.claims
	header := http.Header{}
	s.addCookie(header, sessionKind, m.session, m.sessionExpires)
	if m.refresh != "" {
		s.addCookie(header, refreshKind, m.refresh, m.refreshExpires)
	}
	return t, header
}

// cookies is an answer that says where the cookies are.
func (t *Settings) cookies() tokenAnswer {
	return tokenAnswer{
		CookiePath:          "/",
		CookieName:          t.RefreshCookieName,
		SessionCookieName:   t.SessionCookieName,
		SessionCookieDomain: t.CookieDomain,
	}
}

// addCookie adds a cookie as Descope sets it. An expiry in the past deletes it.
func (t *Settings) addCookie(h http.Header, kind, value string, expires int64) {
	c := http.Cookie{
		Name:     t.cookieName(kind),
		Value:    value,
		Path:     "/",
		Expires:  time.Unix(expires, 0).UTC(),
		MaxAge:   -1,
		HttpOnly: true,
		Secure:   true,
		SameSite: t.CookieSameSite,
	}
	if kind == sessionKind {
		c.Domain = t.CookieDomain
	}
	if left := expires - time.Now().Unix(); left > 0 {
		c.MaxAge = int(left)
	}
	h.Add("Set-Cookie", c.String())
}
