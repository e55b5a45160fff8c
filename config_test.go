package descopehttp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// Rule: cookies: a `drn` among the configured names is of their kind, and no token passes for
// the other kind.
func TestConfigMistakes(t *testing.T) {
	for _, tt := range []struct {
		field string
		edit  func(*descopehttp.Config)
	}{
		{"ProjectID", func(c *descopehttp.Config) { c.ProjectID = "" }},
		{"ProjectID", func(c *descopehttp.Config) { c.ProjectID = "P2short" }},
		{"ProjectID", func(c *descopehttp.Config) { c.ProjectID = kittest.ProjectID + ".evil.example/" }},
		{"ProjectID", func(c *descopehttp.Config) { c.ProjectID = kittest.ProjectID + "\n" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "api.descope.com" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "http://api.descope.com" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "http://127.0.0.1.evil.example" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://user:pass@api.descope.com" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://api.descope.com?x=1" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https:api.descope.com" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://api.descope.com/#x" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://api.descope.com?" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://api.descope.com/#" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "https://:443" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "ftp://127.0.0.1" }},
		{"BaseURL", func(c *descopehttp.Config) { c.BaseURL = "://" }},
		{"AuthManagementKey", func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret("a:b") }},
		{"AuthManagementKey", func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret("a\r\nb") }},
		{"AuthManagementKey", func(c *descopehttp.Config) { c.AuthManagementKey = descopehttp.NewSecret("a\u00e9") }},
		{"AcceptOAuth", func(c *descopehttp.Config) { c.AcceptOAuth = true }},
		{"Leeway", func(c *descopehttp.Config) { c.Leeway = -time.Second }},
		{"Leeway", func(c *descopehttp.Config) { c.Leeway = time.Hour }},
		{"Tokens", func(c *descopehttp.Config) { c.Tokens = 3 }},
		{"Tokens", func(c *descopehttp.Config) { c.Tokens = -1 }},
		{"MaxCachedSessions", func(c *descopehttp.Config) { c.MaxCachedSessions = -2 }},
		{"MaxCachedSessions", func(c *descopehttp.Config) { c.MaxCachedSessions = 10_000_001 }},
		{"StepUpForUpdate", func(c *descopehttp.Config) { c.StepUpForUpdate, c.Tokens = true, descopehttp.SessionInBody }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "signin" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "//evil.example/signin" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "http://own.example/signin" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "https:///signin" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "https://user:pass@own.example/signin" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "/signin#top" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "https://own.example/%zz" }},
		{"LoginURL", func(c *descopehttp.Config) { c.LoginURL = "javascript:alert(1)" }},
		{"Cookies.Domain", func(c *descopehttp.Config) { c.Cookies.Domain = "com" }},
		{"Cookies.Domain", func(c *descopehttp.Config) { c.Cookies.Domain = "10.0.0.1" }},
		{"Cookies.Domain", func(c *descopehttp.Config) { c.Cookies.Domain = "example.com:443" }},
		{"Cookies.Domain", func(c *descopehttp.Config) { c.Cookies.Domain = "example.com; Path=/x" }},
		{"Cookies.SameSite", func(c *descopehttp.Config) { c.Cookies.SameSite = 9 }},
		{"Cookies.SameSite", func(c *descopehttp.Config) { c.Cookies.SameSite = -1 }},
		{"Cookies.SameSite", func(c *descopehttp.Config) {
			c.Cookies.SameSite, c.Cookies.InsecureHTTP = http.SameSiteNoneMode, true
		}},
		{"Keys", func(c *descopehttp.Config) { c.Keys = []byte{} }},
		{"Keys", func(c *descopehttp.Config) { c.Keys = []byte("-----BEGIN PUBLIC KEY-----") }},
		{"Keys", func(c *descopehttp.Config) { c.Keys = []byte(`{"keys":[]}`) }},
		{"Keys", func(c *descopehttp.Config) {
			c.Keys = []byte(`{"keys":[{"kty":"oct","kid":"a","alg":"HS256","k":"AAAA"}]}`)
		}},
		{"Cookies.Partitioned", func(c *descopehttp.Config) { c.Cookies.Partitioned = true }},
		{"Cookies.Partitioned", func(c *descopehttp.Config) {
			c.Cookies.Partitioned, c.Cookies.SameSite = true, http.SameSiteStrictMode
		}},
		{"Cookies.RefreshNames", names("a b", "c a")},
		{"Cookies.RefreshNames", names("a", "A")},
		{"Cookies.SessionNames", names("__Host-DSR", "")},
		{"Cookies.RefreshNames", names("", "__Host-DS")},
		{"Cookies.RefreshNames", names("a", "DS")},
		{"Cookies.RefreshNames", names("a", "b __Secure-ds")},
		{"Cookies.RefreshNames", names("a", "__Host-DSU")},
		{"Cookies.SessionNames", names("DSR", "a")},
		{"Cookies.SessionNames", names("a __Host-DSR", "b")},
		{"Cookies.SessionNames", names("a;b", "b")},
		{"Cookies.SessionNames", names("a=b", "b")},
		{"Cookies.SessionNames", names("\"a\"", "b")},
		{"Cookies.SessionNames", names("\u00e9", "b")},
		{"Cookies.SessionNames", func(c *descopehttp.Config) { c.Cookies.SessionNames = []string{""} }},
		{"Cookies.SessionNames", func(c *descopehttp.Config) { c.Cookies.SessionNames = []string{"a\r\nX: y"} }},
		{"Cookies.SessionNames", names("a a", "b")},
		{"Cookies.SessionNames", names("a b c d e", "f")},
		{"Cookies.SessionNames", func(c *descopehttp.Config) { names("a __Host-b", "c")(c); c.Cookies.Domain = "own.example" }},
		{"Cookies.SessionNames", func(c *descopehttp.Config) { names("__host-b", "c")(c); c.Cookies.Domain = "own.example" }},
		{"Cookies.SessionNames", func(c *descopehttp.Config) { names("a __Secure-b", "c")(c); c.Cookies.InsecureHTTP = true }},
		{"TrustedOrigins[1]", func(c *descopehttp.Config) { c.TrustedOrigins = []string{"https://a.example", "a.example"} }},
		{"TrustedOrigins[0]", func(c *descopehttp.Config) { c.TrustedOrigins = []string{"https://a.example/"} }},
	} {
		cfg := descopehttp.Config{ProjectID: kittest.ProjectID}
		tt.edit(&cfg)
		a, err := descopehttp.New(cfg)
		assert.Nil(t, a)
		var mistake *descopehttp.ConfigError
		if assert.ErrorAs(t, err, &mistake, tt.field) {
			assert.Equal(t, tt.field, mistake.Field)
			assert.Contains(t, err.Error(), "Config."+tt.field)
		}
	}
}

// An emulator in another container is reached over http, and New warns of it.
func TestInsecureBaseURL(t *testing.T) {
	logs := new(kittest.LogBuffer)
	cfg := descopehttp.Config{ProjectID: kittest.ProjectID, BaseURL: "http://descope:8090", Logger: slog.New(slog.NewTextHandler(logs, nil))}
	_, err := descopehttp.New(cfg)
	assert.ErrorContains(t, err, "Config.BaseURL")
	cfg.InsecureBaseURL = true
	_, err = descopehttp.New(cfg)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(logs.String(), "level=WARN"))
	cfg.BaseURL = "ftp://descope:8090"
	_, err = descopehttp.New(cfg)
	assert.ErrorContains(t, err, "Config.BaseURL")
	cfg.BaseURL, cfg.InsecureBaseURL = "http://127.0.0.1:8090", false
	_, err = descopehttp.New(cfg)
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(logs.String(), "level=WARN"))
}

func TestConfigMistakesAreReportedAtOnce(t *testing.T) {
	_, err := descopehttp.New(descopehttp.Config{
		BaseURL:           "http://descope.example",
		AuthManagementKey: descopehttp.NewSecret("K2topsecret:"),
		AcceptOAuth:       true,
		Leeway:            -7,
		Tokens:            9,
		Cookies:           descopehttp.Cookies{Domain: "com", SameSite: 9},
		TrustedOrigins:    []string{"x"},
	})
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	fields := make(map[string]bool)
	for _, err := range joined.Unwrap() {
		var mistake *descopehttp.ConfigError
		require.True(t, errors.As(err, &mistake))
		fields[mistake.Field] = true
	}
	for _, field := range []string{"ProjectID", "BaseURL", "AuthManagementKey", "AcceptOAuth", "Leeway", "Tokens",
		"Cookies.Domain", "Cookies.SameSite", "TrustedOrigins[0]"} {
		assert.True(t, fields[field], field)
	}
	assert.NotContains(t, err.Error(), "topsecret")
}

func TestGoodConfigs(t *testing.T) {
	for name, edit := range map[string]func(*descopehttp.Config){
		"zero":            func(*descopehttp.Config) {},
		"region":          func(c *descopehttp.Config) { c.ProjectID = "Peuc12abcdefghijklmnopqrstuvwxyz" },
		"loopback":        func(c *descopehttp.Config) { c.BaseURL = "http://127.0.0.1:8090" },
		"loopback name":   func(c *descopehttp.Config) { c.BaseURL = "http://localhost:8090/prefix/" },
		"loopback IPv6":   func(c *descopehttp.Config) { c.BaseURL = "http://[::1]:8090" },
		"custom domain":   func(c *descopehttp.Config) { c.BaseURL = "https://auth.example.com" },
		"no leeway":       func(c *descopehttp.Config) { c.Leeway = -1 },
		"names":           names("shop __Host-DS DS", "shopR"),
		"names, domain":   func(c *descopehttp.Config) { names("shop __Secure-DS", "")(c); c.Cookies.Domain = "example.com" },
		"partitioned":     func(c *descopehttp.Config) { c.Cookies.Partitioned, c.Cookies.SameSite = true, http.SameSiteNoneMode },
		"cookie domain":   func(c *descopehttp.Config) { c.Cookies.Domain = "example.com" },
		"leading dot":     func(c *descopehttp.Config) { c.Cookies.Domain = ".example.co.uk" },
		"trusted origins": func(c *descopehttp.Config) { c.TrustedOrigins = []string{"https://app.example.com"} },
	} {
		cfg := descopehttp.Config{ProjectID: kittest.ProjectID}
		edit(&cfg)
		_, err := descopehttp.New(cfg)
		assert.NoError(t, err, name)
	}
}

// The HTTP client that calls Descope must not keep cookies of one user for the
// next, and must not carry tokens to where a redirect points.
//
// Rule: answers: against an answer of a proxy in between (HTML, a redirect, a huge body, one
// that never ends): "Cannot tell"; bounded in size and time, no redirects, never repeated.
// Rule: flows: no redirects, no cookie jar, 10 s.
func TestHTTPClientIsCopiedAndRestricted(t *testing.T) {
	k := kittest.New(t)
	tokens := k.Project.SignIn(kittest.Ada)
	jar := &countingJar{}
	var hosts []string
	client := &http.Client{Jar: jar, Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.Host)
		if strings.HasPrefix(r.URL.Path, kittest.MePath) {
			return &http.Response{
				StatusCode: http.StatusTemporaryRedirect, Body: http.NoBody, Request: r,
				Header: http.Header{"Location": {"https://evil.example/"}, "Set-Cookie": {"a=b"}},
			}, nil
		}
		return k.Project.Client().Transport.RoundTrip(r)
	})}
	a := kittest.For(t, k.Project, func(c *descopehttp.Config) { c.HTTPClient = client })
	require.NoError(t, a.Ready(t.Context()))
	res := kittest.Serve(a.Handler(), kittest.WithCookies(kittest.Get(kittest.MePath), "", tokens.Refresh))
	kittest.RequireProblem(t, res, http.StatusBadGateway, "unavailable")
	assert.NotContains(t, hosts, "evil.example")
	assert.Zero(t, jar.uses)
	assert.NotNil(t, client.Jar, "the caller's client is left as it was")
	assert.Nil(t, client.CheckRedirect)
}

func TestSecretDoesNotPrint(t *testing.T) {
	secret := descopehttp.NewSecret("K2topsecret")
	type holder struct {
		Public  descopehttp.Secret
		private descopehttp.Secret
	}
	h := holder{secret, secret}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		assert.NotContains(t, fmt.Sprintf(verb, secret), "topsecret", verb)
		assert.NotContains(t, fmt.Sprintf(verb, h), "topsecret", verb)
		assert.NotContains(t, fmt.Sprintf(verb, &h), "topsecret", verb)
	}
	encoded, err := json.Marshal(h)
	require.NoError(t, err)
	assert.NotContains(t, string(encoded), "topsecret")
	var log kittest.LogBuffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", secret, "holder", h)
	assert.NotContains(t, log.String(), "topsecret")
	assert.Empty(t, descopehttp.NewSecret("").String())
}

// countingJar counts its uses.
type countingJar struct{ uses int }

func (j *countingJar) SetCookies(*url.URL, []*http.Cookie)    { j.uses++ }
func (j *countingJar) Cookies(*url.URL) (none []*http.Cookie) { j.uses++; return none }
