package descopehttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/internal/cookie"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/guess"
	"github.com/descopehttp/descopehttp/internal/notice"
	"github.com/descopehttp/descopehttp/internal/renew"
	"github.com/descopehttp/descopehttp/internal/token"
	"github.com/descopehttp/descopehttp/internal/visit"
)

// Config says which Descope project signs people in and how this server
// delivers their tokens. Only ProjectID is required; the zero value of every
// other field is the safe choice.
//
// A Config is read once, by [New]. Changing it afterwards has no effect.
type Config struct {
	// ProjectID is the id of the Descope project, "P2…" in the console. It must
	// match ^P[A-Za-z0-9]{27,35}$, because it becomes part of a host name.
	ProjectID string

	// BaseURL is where Descope answers. The default is the project's region, as
	// Descope's own clients derive it from the id: https://api.descope.com, or one
	// such as https://api.euc1.descope.com. Set it for a custom domain. It must be
	// https, except for a loopback address.
	BaseURL string

	// InsecureBaseURL allows a BaseURL of http to any host, for an emulator in another
	// container. Tokens and the management key travel in the clear then; New warns of it.
	InsecureBaseURL bool

	// HTTPClient makes the calls to Descope. The default is a client over a clone of
	// [http.DefaultTransport] that notices dead HTTP/2 connections. New copies it: the copy
	// has no Jar, which would send one user's cookies with another user's call, and follows
	// no redirects, which would carry tokens to another host. Calls that may spend a token
	// take up to 30 s, others 9 s, or Timeout where that is shorter.
	HTTPClient *http.Client

	// AuthManagementKey is sent along with every call, for projects in which
	// public access to the authentication API is disabled.
	AuthManagementKey Secret

	// Audience, if set, must be among the "aud" of every session token.
	// Refresh tokens are held to it only where they carry an audience.
	Audience string

	// AcceptOAuth also takes OAuth access tokens of this project for session
	// tokens: tokens without the "drn" claim and with a "token_type" of
	// "access_token". It requires Audience, because such tokens are issued for
	// many applications.
	AcceptOAuth bool

	// Leeway is how far the clock of this machine may be from Descope's when
	// "exp" and "nbf" are judged. The default, 0, is 5 s; -1 is none; at most
	// a minute.
	Leeway time.Duration

	// Keys, if set, is the project's key set as Descope published it, a JWK Set (RFC 7517):
	// for a start while Descope is away. It serves until the first successful fetch, for a
	// day at most; keys that were revoked since are trusted until then.
	Keys []byte

	// Cookies says how session cookies are named and scoped.
	Cookies Cookies

	// Tokens says how tokens reach the client. The default is InCookies.
	Tokens Delivery

	// TrustedOrigins may send cross-origin requests with cookies, each as
	// "scheme://host[:port]". See [http.CrossOriginProtection].
	TrustedOrigins []string

	// ClientIP returns the address of the client, for the limits on guessing. The
	// default is the address of the connection, which behind a proxy is the
	// proxy's: all clients then share one limit, so set it there, to what
	// [ClientIPFromHeader] returns. The zero Addr is an address that cannot be told: it is
	// logged once a minute.
	ClientIP func(*http.Request) netip.Addr

	// LoginOptions, if set, may edit the options of a sign-in before they go to
	// Descope: add customClaims, ssoAppId, tenantId or templateId, or remove
	// what the client asked for. Of a client's own options only stepup, mfa,
	// locale, templateOptions and revokeOtherSessions are in the map. An error
	// refuses the sign-in with a 403 and is not shown to the client.
	LoginOptions func(r *http.Request, loginID string, options map[string]any) error

	// MaxCachedSessions bounds the sessions whose full check is remembered, about
	// 700 bytes each. The default, 0, is 10,000; -1 checks every request in
	// full. Expiry and the key are judged again on every request either way.
	MaxCachedSessions int

	// MaxRememberedBytes bounds what is remembered of sessions that were renewed, for
	// requests that come late: about 5 KB for each user whose session was renewed within
	// the last minutes. The default, 0, is 64 MiB. What nobody has fetched yet is the last
	// to go.
	MaxRememberedBytes int

	// Limits bound what users and strangers may ask of Descope through this server.
	Limits Limits

	// LoginURL, if set, is where the middleware sends a browser that navigates to
	// a page, or sends a form, without a session, in place of a 401: a path of this
	// server as the browser sees it, such as "/signin", or an https URL (http to a loopback
	// address). The way back is added as the query
	// parameter "return_to"; read it with [ReturnTo]. With "acr_values" the user
	// is signed in and has to step up. htmx gets a 401 with HX-Redirect.
	LoginURL string

	// PathPrefix is what a proxy in front cuts off every path, such as "/shop", to be put in
	// front of "return_to", and of "/" for a form without a way back. Prefixes that this
	// server's own router cuts off are known.
	PathPrefix string

	// StepUpForUpdate makes the update flow ask for a step-up before it replaces
	// the user's key. Without it, whoever holds a refresh token can bind their
	// own authenticator to the account and keep it after the token is revoked.
	// The step-up is read from the session cookie, so it requires InCookies.
	StepUpForUpdate bool

	// RefreshStore lets several replicas share the results of refreshes and
	// logouts. With one replica none is needed; with several and rotation off,
	// without one each refreshes for itself, and a logout on one can be followed by
	// a session from another's memory. While it is away, each replica goes on alone.
	RefreshStore RefreshStore

	// AttemptStore lets several replicas share their limits on guessing. Without
	// one, each replica counts by itself.
	AttemptStore AttemptStore

	// EndsSession and WrongCode, if set, say of an error answer of Descope what the kit
	// does not know: that the refresh token is dead for good, or that the code or the
	// user is wrong. Both are given the HTTP status and Descope's errorCode, are asked
	// before what the kit knows, and may be called by several goroutines at once.
	EndsSession, WrongCode func(status int, code string) bool

	// ErrorHandler, if set, answers requests that the middleware refuses, in
	// place of [Auth.WriteError]. The next handler is never called after it.
	// Cookies that the refusal deletes, Cache-Control: no-store, and Retry-After where
	// waiting helps, are in the header already. One that writes nothing is a 500. The
	// flows do not use it: their clients expect JSON.
	ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)

	// Observer, if set, is shown every verdict, refresh, call to Descope and the like, for
	// metrics: docs/events.md lists them. It is called inline, by several goroutines at once
	// and also while a request with a cached session is judged, so it must be quick; a panic
	// is logged. Its events say nothing of who: Session and User are nil. The context is
	// the request's, without its end where the work outlives it, or none in particular.
	Observer func(context.Context, Event)

	// OnEvent, if set, is told of sign-ins and their ends, and of whom: docs/events.md lists
	// the names. It runs in the request that caused the event, before the answer, so that
	// an application has its own record of a user when that one comes back; what takes
	// long belongs in a goroutine. Each is told once, on several replicas as far as the
	// RefreshStore reaches. It may be called by several goroutines at once; a panic is
	// logged and stops nothing. The context is the request's, but does not end with it.
	OnEvent func(context.Context, Event)

	// Logger receives what an operator should know. It is never given a token,
	// a code, a key or a QR code. The default is [slog.Default].
	Logger *slog.Logger
}

// ClientIPFromHeader returns a Config.ClientIP for a server behind proxies, which believes
// the header name, such as X-Forwarded-For or X-Real-IP, from trusted peers only: from the
// right, the first address counts that is not one of trusted. With or without a port, it
// must parse: an entry that does not is "cannot be told", never skipped; so is a peer on a
// Unix socket, which has no address. It panics without trusted, on one that is not valid, and
// on Forwarded (RFC 7239), which is of another form. The function is safe for concurrent use.
func ClientIPFromHeader(name string, trusted ...netip.Prefix) func(*http.Request) netip.Addr {
	return guess.FromHeader(name, trusted)
}

// A Secret is a string that does not print: not with %+v, nor in JSON, nor in a
// log line, and not from inside another struct either. The zero value is empty.
type Secret struct {
	// A func, because fmt calls no methods on unexported fields of a user's
	// struct; of a func it can print no more than an address.
	reveal func() string
}

// NewSecret returns s as a Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{reveal: func() string { return s }}
}

// String returns a fixed text, or the empty string for an empty Secret.
func (s Secret) String() string {
	if s.reveal == nil {
		return ""
	}
	return "[secret]"
}

// GoString returns what String does.
func (s Secret) GoString() string { return s.String() }

// MarshalText returns what String does.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns what String does.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s Secret) value() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// A ConfigError is one mistake in a [Config]. New reports all of them at once,
// joined; [errors.As] finds the first.
type ConfigError struct {
	Field  string // name of the field, such as "BaseURL" or "Cookies.Domain"
	Reason string
}

// Error returns a sentence that names the field.
func (e *ConfigError) Error() string {
	return "descopehttp: Config." + e.Field + ": " + e.Reason
}

const maxLeeway = time.Minute

var projectIDPattern = regexp.MustCompile(`^P[A-Za-z0-9]{27,35}$`)

// New returns an Auth that behaves as cfg says. It makes no network call:
// [Auth.Ready] tells whether Descope's keys can be had. If cfg is invalid, New
// reports every mistake in it, each a [*ConfigError], joined by [errors.Join].
func New(cfg Config) (*Auth, error) {
	var errs configErrors
	errs.checkProject(&cfg)
	errs.checkTokens(&cfg)
	cookies := cookie.Settings(cfg.Cookies)
	cookies.Check(func(field, reason string) { errs.add("Cookies."+field, "%s", reason) })
	if reason := descope.CheckBaseURL(cfg.BaseURL, cfg.InsecureBaseURL); reason != "" {
		errs.add("BaseURL", "%s", reason)
	}
	if l := cfg.Limits; min(l.SessionCalls, l.AccountCalls, l.SecondFactorCalls, l.SignInCalls, l.GuessesPerLogin, l.GuessesPerDay, l.GuessesPerNetwork, l.SignUpsPerNetwork) < 0 {
		errs.add("Limits", "must not be negative")
	}
	if e := cfg.Limits.EarlyRenewal; e < EarlyWithoutRotation || e > EarlyNever {
		errs.add("Limits", "EarlyRenewal is none of the constants")
	}
	given := token.ParseKeySet(cfg.Keys)
	if cfg.Keys != nil && len(given) == 0 {
		errs.add("Keys", "must be a JWK set with a key that is for verifying")
	}
	csrf, wrong := visit.TrustOrigins(cfg.TrustedOrigins)
	for _, i := range wrong {
		errs.add(fmt.Sprintf("TrustedOrigins[%d]", i), `must be "scheme://host[:port]"`)
	}
	login, ok := visit.ParseLoginURL(cfg.LoginURL)
	if !ok {
		errs.add("LoginURL", "must be a path of this server, an https URL, or http to a loopback address")
	}
	if p := cfg.PathPrefix; p != "" && (!visit.IsLocalPath(p) || strings.HasSuffix(p, "/") || strings.ContainsAny(p, "?#")) {
		errs.add("PathPrefix", "must be a path such as /shop, without a slash at its end")
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}

	notices := notice.New(cmp.Or(cfg.Logger, slog.Default()), observerOf(cfg.Observer))
	rules := &token.Rules{
		ProjectID:   cfg.ProjectID,
		Audience:    cfg.Audience,
		AcceptOAuth: cfg.AcceptOAuth,
		Leeway:      token.LeewayOf(cfg.Leeway),
		Names:       token.Names{Session: slices.Clone(cfg.Cookies.SessionNames), Refresh: slices.Clone(cfg.Cookies.RefreshNames)},
	}
	api := descope.New(descope.Config{
		ProjectID:     cfg.ProjectID,
		BaseURL:       cfg.BaseURL,
		Insecure:      cfg.InsecureBaseURL,
		HTTPClient:    cfg.HTTPClient,
		ManagementKey: cfg.AuthManagementKey.value,
		Limits:        cfg.Limits.calls(),
		Names:         rules.Names,
		Rules:         descope.Rules{EndsSession: cfg.EndsSession, WrongCode: cfg.WrongCode},
		Notices:       notices,
	})
	keys := newKeySet(api, rules, notices)
	keys.give(given)
	attempts := guess.New(guess.Config{ProjectID: cfg.ProjectID, ClientIP: cfg.ClientIP, Store: cfg.AttemptStore, Notices: notices, Limits: cfg.Limits.guesses()})
	cache := newSessionCache(cfg.MaxCachedSessions, rules, keys)
	renewer := renew.New(renew.Config{ProjectID: cfg.ProjectID, API: api, Keys: renewKeys{keys}, Rules: rules, Store: storeOf(cfg.RefreshStore), MaxBytes: cfg.MaxRememberedBytes, Early: renew.Early(cfg.Limits.EarlyRenewal), Shown: cache.holds, Notices: notices})
	return &Auth{
		projectID:    cfg.ProjectID,
		delivery:     cfg.Tokens,
		loginOptions: cfg.LoginOptions,
		stepUpUpdate: cfg.StepUpForUpdate,
		notices:      notices,
		refusals:     refusals{loginURL: login, pathPrefix: cfg.PathPrefix, handler: cfg.ErrorHandler, notices: notices},
		csrf:         csrf,
		cookies:      newCookiePolicy(cfg.Cookies, cfg.Tokens, cfg.ProjectID, notices),
		api:          api,
		keys:         keys,
		renewer:      renewer,
		attempts:     attempts,
		application:  application{onEvent: cfg.OnEvent, notices: notices, renewer: renewer},
		judge: &judge{
			rules:    rules,
			keys:     keys,
			cache:    cache,
			attempts: attempts,
			renewals: renewer,
		},
	}, nil
}

type configErrors []error

func (errs *configErrors) add(field, format string, args ...any) {
	*errs = append(*errs, &ConfigError{Field: field, Reason: fmt.Sprintf(format, args...)})
}

func (errs *configErrors) checkProject(cfg *Config) {
	switch {
	case cfg.ProjectID == "":
		errs.add("ProjectID", "is required")
	case !projectIDPattern.MatchString(cfg.ProjectID):
		errs.add("ProjectID", "must match %s", projectIDPattern)
	}
	// The parts of the Authorization header are joined by colons.
	if key := cfg.AuthManagementKey.value(); strings.ContainsFunc(key, notVisibleASCII) || strings.Contains(key, ":") {
		errs.add("AuthManagementKey", "must be visible ASCII without a colon")
	}
}

func (errs *configErrors) checkTokens(cfg *Config) {
	if cfg.AcceptOAuth && cfg.Audience == "" {
		errs.add("AcceptOAuth", "requires Audience")
	}
	if (cfg.Leeway < 0 && cfg.Leeway != -1) || cfg.Leeway > maxLeeway {
		errs.add("Leeway", "must be -1 or between 0 and %v", maxLeeway)
	}
	if cfg.Tokens < InCookies || cfg.Tokens > InBody {
		errs.add("Tokens", "must be InCookies, SessionInBody or InBody")
	}
	if cfg.MaxCachedSessions < -1 || cfg.MaxCachedSessions > maxCachedSessions {
		errs.add("MaxCachedSessions", "must be between -1 and %d", maxCachedSessions)
	}
	if cfg.MaxRememberedBytes < 0 {
		errs.add("MaxRememberedBytes", "must not be negative")
	}
	if cfg.StepUpForUpdate && cfg.Tokens != InCookies {
		errs.add("StepUpForUpdate", "requires Tokens to be InCookies")
	}
}

func notVisibleASCII(r rune) bool { return r <= ' ' || r > '~' }

// storeOf returns nil for no store: an interface that holds a nil one would be a store.
func storeOf(s RefreshStore) renew.Store {
	if s == nil {
		return nil
	}
	return s
}

// renewKeys are the keys as renewing needs them.
type renewKeys struct{ *keySet }

// Ready implements [renew.Keys].
func (k renewKeys) Ready(ctx context.Context) error { return k.ready(ctx) }

// Filter implements [renew.Keys].
func (k renewKeys) Filter(ctx context.Context, t *token.Token) error {
	err := k.filter(ctx, t)
	if t.Unverified = err == errKeyNotHeld; t.Unverified {
		return nil
	}
	return err
}

// VerifyAnswer implements [renew.Keys].
func (k renewKeys) VerifyAnswer(ctx context.Context, t *token.Token) (*token.Key, error) {
	return k.verify(ctx, t, clockFor(keyFetchTimeout), fetchPastFloor)
}

// Trusts implements [renew.Keys].
func (k renewKeys) Trusts(key *token.Key, now time.Time) bool { return k.trusts(key, now) }
