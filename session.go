package descopehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/descopehttp/descopehttp/internal/token"
)

// A Session is who a request belongs to: the verified claims of a session token.
// It is never changed after it was made and is safe for concurrent use. Slices
// and maps that it returns are the caller's own.
//
// Sessions come from [SessionFromContext] behind the middleware, from
// [Auth.Authenticate] and from [Auth.VerifyToken]. The zero Session is of no use.
type Session struct {
	shared *verified
	// A pointer, so that not even %+v of a struct that holds a Session prints
	// the token.
	token *string
}

// verified is what all requests with one session token share. It does not
// hold the token.
type verified struct {
	token.Verified // its Key is nil from NewSession
	companion      companion
}

// newSession returns the session of a token that has passed all checks.
func newSession(t *token.Token, key *token.Key) *Session {
	return &Session{shared: &verified{Verified: t.Verified(key)}, token: &t.Raw}
}

// NewSession returns a Session with the given claims, for testing handlers that
// read one: anything that encodes as a JSON object, such as map[string]any. The
// claims are not verified, nothing is required of them, and no middleware takes
// the Session for a credential: pass it on with [ContextWithSession]. Token
// returns "". The error says that the claims are no JSON object.
func NewSession(claims any) (*Session, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, errors.New("descopehttp: claims cannot be encoded as JSON")
	}
	v, err := token.ReadClaims(payload)
	if err != nil {
		return nil, errors.New("descopehttp: claims are not a JSON object with claims of the usual types")
	}
	return &Session{shared: &verified{Verified: v}, token: new(string)}, nil
}

// Subject returns the id of the user: the "sub" claim, or "dsub" where the
// project's template puts something else into sub.
func (s *Session) Subject() string { return s.shared.Claims.User() }

// Issuer returns the "iss" claim.
func (s *Session) Issuer() string {
	var c struct {
		ISS jsontext.Value `json:"iss"`
	}
	s.decode(&c)
	return stringOf(c.ISS)
}

// IssuedAt returns the "iat" claim, or the zero time.
func (s *Session) IssuedAt() time.Time { return s.shared.Claims.IssuedAt }

// Expiry returns when the session token expires, as its "exp" says; the leeway
// is not part of it. Something that outlives the request, such as a WebSocket,
// should end then.
func (s *Session) Expiry() time.Time { return s.shared.Claims.Expiry }

// TimeLeft returns how long the session token is still valid, 0 if it is not.
func (s *Session) TimeLeft() time.Duration { return max(time.Until(s.Expiry()), 0) }

// RefreshExpiry returns until when the session can be renewed, the "rexp"
// claim, or the zero time.
func (s *Session) RefreshExpiry() time.Time {
	var c struct {
		REXP jsontext.Value `json:"rexp"`
	}
	s.decode(&c)
	expiry, _ := time.Parse(time.RFC3339, stringOf(c.REXP))
	return expiry
}

// Tenant returns the id of the tenant that the user is working in, the "dct"
// claim, or "".
func (s *Session) Tenant() string { return s.authorization().Tenant }

// AuthMethods returns how the user signed in, the "amr" claim: "totp", "mfa"
// and so on.
func (s *Session) AuthMethods() []string {
	var c struct {
		AMR jsontext.Value `json:"amr"`
	}
	s.decode(&c)
	return stringList(c.AMR)
}

// StepUp reports whether the user has just proved again who they are, the "su"
// claim.
func (s *Session) StepUp() bool {
	var c struct {
		SU jsontext.Value `json:"su"`
	}
	s.decode(&c)
	return c.SU.Kind() == 't'
}

// Roles returns the user's roles in the tenant, or with "" those of the project
// as a whole.
func (s *Session) Roles(tenant string) []string {
	roles, _ := s.authorization().in(tenant)
	return roles
}

// Permissions returns the user's permissions in the tenant, or with "" those of
// the project as a whole.
func (s *Session) Permissions(tenant string) []string {
	_, permissions := s.authorization().in(tenant)
	return permissions
}

// HasRole reports whether the role is among Roles(tenant).
func (s *Session) HasRole(tenant, role string) bool {
	return slices.Contains(s.Roles(tenant), role)
}

// HasPermission reports whether the permission is among Permissions(tenant).
func (s *Session) HasPermission(tenant, permission string) bool {
	return slices.Contains(s.Permissions(tenant), permission)
}

// Claims decodes all claims of the token into v, which is what [json.Unmarshal]
// takes: a pointer to a struct with json tags, or to a map. Names match by case.
func (s *Session) Claims(v any) error {
	if err := json.Unmarshal(s.shared.Payload, v); err != nil {
		return errors.New("descopehttp: claims do not fit the type they are decoded into")
	}
	return nil
}

// Token returns the session token itself, to send along to another service of
// the same project. It is a credential: keep it out of logs.
func (s *Session) Token() string { return *s.token }

// LogValue gives a log line the subject, the tenant and the expiry. The token
// stays out.
func (s *Session) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("subject", s.Subject()),
		slog.String("tenant", s.Tenant()),
		slog.Time("expiry", s.Expiry()),
	)
}

// Format prints a text without the token or a claim, for every verb.
func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, "descopehttp.Session") }

// decode reads claims that only guards and pages look at. One of a wrong type
// counts as absent, so it is decoded raw and judged by who asked.
func (s *Session) decode(v any) { _ = json.Unmarshal(s.shared.Payload, v) }

// authorization is where Descope puts roles and permissions.
type authorization struct {
	Tenant      string
	roles       []string
	permissions []string
	tenants     map[string]jsontext.Value
	hasTenants  bool
	oddTenant   bool // there is a current tenant, of a type that no tenant has
}

func (s *Session) authorization() *authorization {
	var c struct {
		DCT         jsontext.Value `json:"dct"`
		Roles       jsontext.Value `json:"roles"`
		Permissions jsontext.Value `json:"permissions"`
		Tenants     jsontext.Value `json:"tenants"`
	}
	s.decode(&c)
	a := &authorization{
		roles:       stringList(c.Roles),
		permissions: stringList(c.Permissions),
		hasTenants:  c.Tenants.Kind() == '{', // of another type it counts as absent
	}
	a.Tenant = stringOf(c.DCT)
	a.oddTenant = c.DCT != nil && c.DCT.Kind() != '"' && c.DCT.Kind() != 'n'
	if c.Tenants.Kind() == '{' {
		_ = json.Unmarshal(c.Tenants, &a.tenants)
	}
	return a
}

// in returns roles and permissions in a tenant, or with "" of the project. Where
// a token names a current tenant and has no tenants claim, its top-level lists
// are that tenant's; read as the project's, they would make the admin of one
// tenant an admin of all.
func (a *authorization) in(tenant string) (roles, permissions []string) {
	topLevelIsTenants := (a.Tenant != "" || a.oddTenant) && !a.hasTenants
	if tenant == "" {
		if topLevelIsTenants {
			return nil, nil
		}
		return a.roles, a.permissions
	}
	if topLevelIsTenants && tenant == a.Tenant {
		return a.roles, a.permissions
	}
	var t struct {
		Roles       jsontext.Value `json:"roles"`
		Permissions jsontext.Value `json:"permissions"`
	}
	if raw := a.tenants[tenant]; raw.Kind() == '{' {
		_ = json.Unmarshal(raw, &t)
	}
	return stringList(t.Roles), stringList(t.Permissions)
}

// stringOf returns the text of a JSON string, or "" for anything else.
func stringOf(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	text, _ := jsontext.AppendUnquote(nil, v) // it was decoded before, so it is valid
	return string(text)
}

// stringList returns the strings of a JSON array, or nil if it is not an array
// of strings and nothing else.
func stringList(v jsontext.Value) []string {
	var list []string
	if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return nil
	}
	return list
}

// sessionContext carries what the middleware found to the handler. It is a
// context by itself and holds the Session: one allocation instead of three.
type sessionContext struct {
	context.Context
	owner   any     // the Auth whose verdict this is; nil from ContextWithSession
	session Session // not there if err is set
	err     error   // why there is no session
}

type sessionContextKey struct{}

// Value implements [context.Context].
func (c *sessionContext) Value(key any) any {
	if key == (sessionContextKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// Format keeps fmt from printing the parts.
func (c *sessionContext) Format(f fmt.State, _ rune) { io.WriteString(f, "descopehttp.Context") }

func sessionContextOf(ctx context.Context) *sessionContext {
	c, _ := ctx.Value(sessionContextKey{}).(*sessionContext)
	return c
}

// SessionFromContext returns the session of a request, and whether there is one.
// Behind RequireSession and Require there always is.
func SessionFromContext(ctx context.Context) (*Session, bool) {
	c := sessionContextOf(ctx)
	if c == nil || c.err != nil {
		return nil, false
	}
	return &c.session, true
}

// ContextWithSession returns a context that carries s, for testing handlers
// without the middleware. Handlers can read it; the middleware does not take it
// for a credential.
func ContextWithSession(ctx context.Context, s *Session) context.Context {
	if s == nil {
		return &sessionContext{Context: ctx, err: ErrNoSession}
	}
	return &sessionContext{Context: ctx, session: *s}
}

// SessionError tells why a request behind LoadSession has no session: one of
// the errors of this package, nil if there is a session or LoadSession was not
// there. With [ErrUnavailable] the visitor may well be signed in, and a page
// should not say otherwise.
func SessionError(ctx context.Context) error {
	if c := sessionContextOf(ctx); c != nil {
		return c.err
	}
	return nil
}
