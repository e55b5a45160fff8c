package bench

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	ginjwt "github.com/appleboy/gin-jwt/v2"
	jwtmiddleware "github.com/auth0/go-jwt-middleware/v2"
	"github.com/auth0/go-jwt-middleware/v2/jwks"
	"github.com/auth0/go-jwt-middleware/v2/validator"
	"github.com/clerk/clerk-sdk-go/v2"
	clerkhttp "github.com/clerk/clerk-sdk-go/v2/http"
	clerkjwks "github.com/clerk/clerk-sdk-go/v2/jwks"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/jwtauth/v5"
	jwt4 "github.com/golang-jwt/jwt/v4"
	"github.com/golang-jwt/jwt/v5"
	echojwt "github.com/labstack/echo-jwt/v4"
	echo4 "github.com/labstack/echo/v4"
	"github.com/labstack/echo/v5"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"
	jwxjwt "github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/adapters/descopechi"
	"github.com/descopehttp/descopehttp/adapters/descopeecho"
	"github.com/descopehttp/descopehttp/adapters/descopegin"
)

// A Kind groups contenders.
type Kind int

const (
	Floor  Kind = iota // no check of a token, or nothing but the signature
	Ours               // the kit
	Others             // another library
)

// A Contender is a way to guard a handler.
type Contender struct {
	Name    string
	Kind    Kind
	Guarded bool // refuses a tampered token; floors do not look at the request
	handler func(ctx context.Context, p *Project, next http.Handler) (http.Handler, error)
	request func(*Project) *http.Request
}

// Handler returns next behind the contender's middleware. What the middleware
// runs beside it ends with ctx.
func (c Contender) Handler(ctx context.Context, p *Project, next http.Handler) (http.Handler, error) {
	return c.handler(ctx, p, next)
}

// Request returns a request with the project's good token.
func (c Contender) Request(p *Project) *http.Request {
	if c.request == nil {
		return Bearer(p.Token)
	}
	return c.request(p)
}

// Names that the report looks up.
const (
	BareCheck      = "sha256 + RSA verify"
	OneValue       = "one context value"
	NoAuth         = "no auth"
	PlainChi       = "chi, no auth"
	UncachedBearer = "descopehttp, uncached"
	UncachedCookie = "descopehttp, uncached, cookie"
	FirstBearer    = "descopehttp, first request of a session"
	CachedBearer   = "descopehttp, cached"
	CachedCookie   = "descopehttp, cached, cookie"
	CachedCookies  = "descopehttp, cached, both cookies"
	CachedChi      = "descopechi, cached"
	CachedGin      = "descopegin, cached"
	CachedEcho     = "descopeecho, cached"
	GolangJWT      = "golang-jwt + keyfunc"
	GoOIDC         = "go-oidc 3.21"
	Auth0          = "auth0 2.3.1"
	Clerk          = "clerk 2.4.2"
	JWX            = "jwx 3.3"
	JWTAuth        = "chi jwtauth 5.3.3"
)

// Contenders returns all of them, in the order of the report.
func Contenders() []Contender {
	cached := func(*descopehttp.Config) {}
	uncached := func(c *descopehttp.Config) { c.MaxCachedSessions = -1 }
	cookie := func(p *Project) *http.Request { return Cookies(p.Token, "") }
	cookies := func(p *Project) *http.Request { return Cookies(p.Token, p.Refresh) }
	return []Contender{
		{Name: OneValue, Kind: Floor, handler: oneValue},
		{Name: BareCheck, Kind: Floor, handler: bareCheck},
		{Name: "gin, no auth", Kind: Floor, handler: onGin(nil)},
		{Name: "echo v5, no auth", Kind: Floor, handler: onEcho(nil)},
		{Name: PlainChi, Kind: Floor, handler: onChi(nil)},

		{Name: CachedBearer, Kind: Ours, Guarded: true, handler: ours(cached)},
		{Name: CachedCookie, Kind: Ours, Guarded: true, handler: ours(cached), request: cookie},
		{Name: CachedCookies, Kind: Ours, Guarded: true, handler: ours(cached), request: cookies},
		{Name: CachedChi, Kind: Ours, Guarded: true, handler: onChi(cached)},
		{Name: CachedGin, Kind: Ours, Guarded: true, handler: onGin(cached)},
		{Name: CachedEcho, Kind: Ours, Guarded: true, handler: onEcho(cached)},
		{Name: FirstBearer, Kind: Ours, Guarded: true, handler: firstRequests},
		{Name: UncachedBearer, Kind: Ours, Guarded: true, handler: ours(uncached)},
		{Name: UncachedCookie, Kind: Ours, Guarded: true, handler: ours(uncached), request: cookie},
		{Name: "descopechi, uncached", Kind: Ours, Guarded: true, handler: onChi(uncached)},
		{Name: "descopegin, uncached", Kind: Ours, Guarded: true, handler: onGin(uncached)},
		{Name: "descopeecho, uncached", Kind: Ours, Guarded: true, handler: onEcho(uncached)},

		{Name: GolangJWT, Kind: Others, Guarded: true, handler: golangJWT},
		{Name: "gin-jwt 2.10.3", Kind: Others, Guarded: true, handler: ginJWT},
		{Name: "echo-jwt 4.4.0", Kind: Others, Guarded: true, handler: echoJWT},
		{Name: GoOIDC, Kind: Others, Guarded: true, handler: goOIDC},
		{Name: JWX, Kind: Others, Guarded: true, handler: lestrratJWX},
		{Name: Auth0, Kind: Others, Guarded: true, handler: auth0},
		{Name: JWTAuth, Kind: Others, Guarded: true, handler: chiJWTAuth},
		{Name: Clerk, Kind: Others, Guarded: true, handler: clerkSDK},
	}
}

// Named returns the contenders of those names, in that order.
func Named(names ...string) []Contender {
	var list []Contender
	for _, name := range names {
		for _, c := range Contenders() {
			if c.Name == name {
				list = append(list, c)
			}
		}
	}
	return list
}

func oneValue(_ context.Context, _ *Project, next http.Handler) (http.Handler, error) {
	type key struct{}
	value := new(descopehttp.Session)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, value)))
	}), nil
}

// bareCheck is what no check of a signed token can do without, and nothing else:
// the token is split and its signature decoded beforehand.
func bareCheck(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
	check, err := p.bareCheck()
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		check()
		next.ServeHTTP(w, r)
	}), nil
}

func (p *Project) bareCheck() (func(), error) {
	i := strings.LastIndexByte(p.Token, '.')
	signed := []byte(p.Token[:i])
	signature, err := base64.RawURLEncoding.DecodeString(p.Token[i+1:])
	if err != nil {
		return nil, err
	}
	return func() {
		sum := sha256.Sum256(signed)
		if rsa.VerifyPKCS1v15(&p.key.PublicKey, crypto.SHA256, sum[:], signature) != nil {
			panic("bench: the good signature does not verify")
		}
	}, nil
}

type edit = func(*descopehttp.Config)

func ours(e edit) func(context.Context, *Project, http.Handler) (http.Handler, error) {
	return func(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
		a, err := p.Auth(e)
		if err != nil {
			return nil, err
		}
		return a.RequireSession(next), nil
	}
}

// firstRequests puts another session into each request that carries the good one:
// it is looked for in the cache, checked and put in. The cache holds one at a
// time, so that none is found.
func firstRequests(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
	a, err := p.Auth(func(c *descopehttp.Config) { c.MaxCachedSessions = 1 })
	if err != nil {
		return nil, err
	}
	h := a.RequireSession(next)
	good := "Bearer " + p.Token
	requests := p.manyRequests(64)
	var n atomic.Uint64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == good {
			r = requests[n.Add(1)%uint64(len(requests))]
		}
		h.ServeHTTP(w, r)
	}), nil
}

// onGin, onEcho and onChi route to next, behind the adapter unless e is nil.

func onGin(e edit) func(context.Context, *Project, http.Handler) (http.Handler, error) {
	return func(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
		router := newGin()
		if e != nil {
			a, err := p.Auth(e)
			if err != nil {
				return nil, err
			}
			router.Use(descopegin.RequireSession(a))
		}
		router.GET("/", gin.WrapH(next))
		return router, nil
	}
}

func newGin() *gin.Engine {
	gin.SetMode(gin.ReleaseMode)
	return gin.New()
}

func onEcho(e edit) func(context.Context, *Project, http.Handler) (http.Handler, error) {
	return func(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
		router := echo.New()
		if e != nil {
			a, err := p.Auth(e)
			if err != nil {
				return nil, err
			}
			router.Use(descopeecho.RequireSession(a))
		}
		router.GET("/", func(c *echo.Context) error {
			next.ServeHTTP(c.Response(), c.Request())
			return nil
		})
		return router, nil
	}
}

func onChi(e edit) func(context.Context, *Project, http.Handler) (http.Handler, error) {
	return func(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
		router := chi.NewRouter()
		if e != nil {
			a, err := p.Auth(e)
			if err != nil {
				return nil, err
			}
			router.Use(descopechi.RequireSession(a))
		}
		router.Get("/", next.ServeHTTP)
		return router, nil
	}
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

type claimsKey struct{}

func withClaims(r *http.Request, claims any) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims))
}

// What follows writes each library the way its own documentation does.

func golangJWT(ctx context.Context, p *Project, next http.Handler) (http.Handler, error) {
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{p.KeysURL()})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := jwt.Parse(bearer(r), keys.Keyfunc)
		if err != nil || !token.Valid {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, withClaims(r, token.Claims))
	}), nil
}

// ginJWT is built over golang-jwt v4, which keyfunc v3 does not serve: it is
// given the key.
func ginJWT(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
	mw, err := ginjwt.New(&ginjwt.GinJWTMiddleware{
		Realm:            "bench",
		SigningAlgorithm: "RS256",
		KeyFunc: func(t *jwt4.Token) (any, error) {
			if t.Method.Alg() != "RS256" || t.Header["kid"] != p.kid {
				return nil, errors.New("unknown key")
			}
			return p.PublicKey(), nil
		},
	})
	if err != nil {
		return nil, err
	}
	router := newGin()
	router.Use(mw.MiddlewareFunc())
	router.GET("/", gin.WrapH(next))
	return router, nil
}

func echoJWT(ctx context.Context, p *Project, next http.Handler) (http.Handler, error) {
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{p.KeysURL()})
	if err != nil {
		return nil, err
	}
	router := echo4.New()
	router.Use(echojwt.WithConfig(echojwt.Config{KeyFunc: keys.Keyfunc}))
	router.GET("/", echo4.WrapHandler(next))
	return router, nil
}

func goOIDC(ctx context.Context, p *Project, next http.Handler) (http.Handler, error) {
	verifier := oidc.NewVerifier(p.issuer(), oidc.NewRemoteKeySet(ctx, p.KeysURL()), &oidc.Config{ClientID: audience})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := verifier.Verify(r.Context(), bearer(r))
		if err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		var claims struct {
			Email       string   `json:"email"`
			Permissions []string `json:"permissions"`
		}
		if err := token.Claims(&claims); err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, withClaims(r, &claims))
	}), nil
}

func lestrratJWX(ctx context.Context, p *Project, next http.Handler) (http.Handler, error) {
	cache, err := jwk.NewCache(ctx, httprc.NewClient())
	if err != nil {
		return nil, err
	}
	if err := cache.Register(ctx, p.KeysURL()); err != nil {
		return nil, err
	}
	keys, err := cache.CachedSet(p.KeysURL())
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := jwxjwt.ParseRequest(r, jwxjwt.WithKeySet(keys))
		if err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, withClaims(r, token))
	}), nil
}

func auth0(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
	issuer, err := url.Parse(p.issuer())
	if err != nil {
		return nil, err
	}
	keys, err := url.Parse(p.KeysURL())
	if err != nil {
		return nil, err
	}
	provider := jwks.NewCachingProvider(issuer, 5*time.Minute, jwks.WithCustomJWKSURI(keys))
	v, err := validator.New(provider.KeyFunc, validator.RS256, p.issuer(), []string{audience})
	if err != nil {
		return nil, err
	}
	return jwtmiddleware.New(v.ValidateToken).CheckJWT(next), nil
}

// chiJWTAuth is given the key: it fetches none.
func chiJWTAuth(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
	auth := jwtauth.New("RS256", nil, p.PublicKey())
	router := chi.NewRouter()
	router.Use(jwtauth.Verifier(auth), jwtauth.Authenticator(auth))
	router.Get("/", next.ServeHTTP)
	return router, nil
}

func clerkSDK(_ context.Context, p *Project, next http.Handler) (http.Handler, error) {
	client := clerkjwks.NewClient(&clerk.ClientConfig{BackendConfig: clerk.BackendConfig{
		URL: clerk.String(p.URL()),
		Key: clerk.String("sk_test_bench"),
	}})
	return clerkhttp.RequireHeaderAuthorization(clerkhttp.JWKSClient(client))(next), nil
}
