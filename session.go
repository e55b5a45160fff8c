package descopehttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/descopehttp/descopehttp/internal/cookie"
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
	tried          atomic.Int64 // to renew it ahead of its end, Unix nanoseconds
	awaited        atomic.Bool  // the next one, which costs no call any more
}

// A companion is the refresh cookie that was last judged beside a session and
// found to be the same user's. It is remembered as a keyed 64-bit hash: judging
// it again with every request would cost more than the session, and forgetting
// it costs a check.
type companion struct{ hash atomic.Uint64 }

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
func (s *Session) Issuer() string { return s.shared.Issuer() }

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
func (s *Session) RefreshExpiry() time.Time { return s.shared.RefreshExpiry() }

// Tenant returns the id of the tenant that the user is working in, the "dct"
// claim, or "".
func (s *Session) Tenant() string { return s.shared.Tenant() }

// AuthMethods returns how the user signed in, the "amr" claim: "totp", "mfa"
// and so on.
func (s *Session) AuthMethods() []string { return s.shared.AuthMethods() }

// StepUp reports whether the user has just proved again who they are, the "su"
// claim.
func (s *Session) StepUp() bool { return s.shared.StepUp() }

// Roles returns the user's roles in the tenant, or with "" those of the project
// as a whole.
func (s *Session) Roles(tenant string) []string {
	roles, _ := s.shared.Authorization(tenant)
	return roles
}

// Permissions returns the user's permissions in the tenant, or with "" those of
// the project as a whole.
func (s *Session) Permissions(tenant string) []string {
	_, permissions := s.shared.Authorization(tenant)
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
	if s == nil {
		return slog.AnyValue(nil)
	}
	return slog.GroupValue(
		slog.String("subject", s.Subject()),
		slog.String("tenant", s.Tenant()),
		slog.Time("expiry", s.Expiry()),
	)
}

// Format prints a text without the token or a claim, for every verb.
func (s *Session) Format(f fmt.State, _ rune) {
	if s == nil {
		io.WriteString(f, "<nil>")
		return
	}
	io.WriteString(f, "descopehttp.Session")
}

// sessionContext carries what the middleware found to the handler. It is a
// context by itself and holds the Session: one allocation instead of three.
type sessionContext struct {
	context.Context
	owner   owner   // the Auth whose verdict this is; nil from ContextWithSession
	session Session // not there if err is set
	err     error   // why there is no session

	renewedWith *token.Token // that brought the session; nil if the request had it
	marks       cookie.Marks
}

// An owner is an Auth, as far as sessions know of it.
type owner interface {
	// codeTyped reports whether s is the answer to a code that was typed at most within ago.
	codeTyped(ctx context.Context, s *Session, within time.Duration) bool
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
