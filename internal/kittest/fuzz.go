package kittest

import (
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
)

// Whose the tokens of fuzz targets are, and when the good ones expire: in 2100.
const (
	FuzzAda, FuzzBob = "U2ada", "U2bob"
	FarAhead         = 4102444800
)

// FuzzTokens are what fuzz targets put in place of their placeholders: tokens that a
// kit of [NewOver] judges. They are signed anew in each process, so a corpus holds
// none and stays good.
type FuzzTokens map[string]string

// Expand returns a text with tokens in it.
func (f FuzzTokens) Expand(s string) string {
	for placeholder, token := range f {
		s = strings.ReplaceAll(s, placeholder, token)
	}
	return s
}

// NewFuzzTokens returns the tokens of a process: S and T are sessions of one user, R
// and Q her refresh tokens, X and Y the two of another user, E and F hers that have
// expired, U is of an unknown key and P the project's id.
func NewFuzzTokens(t testing.TB) FuzzTokens {
	t.Helper()
	_, key := Keys()
	token := func(drn, user string, exp int64, more string) string {
		return SignRaw(t, key, `{"alg":"ES256","kid":"`+ECKid+`"}`,
			fmt.Sprintf(`{"iss":%q,"sub":%q,"drn":%q,"exp":%d,"iat":946684800%s}`, ProjectID, user, drn, exp, more))
	}
	return FuzzTokens{
		"{{S}}": token("DS", FuzzAda, FarAhead, ""), "{{R}}": token("DSR", FuzzAda, FarAhead, ""),
		"{{T}}": token("DS", FuzzAda, FarAhead, `,"n":2`), "{{Q}}": token("DSR", FuzzAda, FarAhead, `,"n":2`),
		"{{X}}": token("DS", FuzzBob, FarAhead, ""), "{{Y}}": token("DSR", FuzzBob, FarAhead, ""),
		"{{E}}": token("DS", FuzzAda, 946684801, ""), "{{F}}": token("DSR", FuzzAda, 946684801, ""),
		"{{U}}": Segment(`{"alg":"ES256","kid":"SKunknown"}`) + "." + Segment(fmt.Sprintf(`{"iss":%q,"sub":"U2ada","drn":"DSR","exp":%d}`, ProjectID, FarAhead)) + "." + Segment("forged"),
		"{{P}}": ProjectID,
	}
}

// keySet is the key set document of [Keys].
func keySet() string {
	r, e := Keys()
	point, err := e.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":%q,"alg":"RS256","use":"sig","n":%q,"e":"AQAB"},{"kty":"EC","kid":%q,"alg":"ES256","use":"sig","crv":"P-256","x":%q,"y":%q}]}`,
		RSAKid, b64(r.N.Bytes()), ECKid, b64(point[1:33]), b64(point[33:]))
}

// NewOver returns an Auth over a Descope that answers as it is told, but for its
// keys.
func NewOver(t testing.TB, answer func(r *http.Request, body []byte) (status int, header http.Header, content string), edits ...func(*descopehttp.Config)) *descopehttp.Auth {
	t.Helper()
	keys := keySet()
	cfg := descopehttp.Config{
		ProjectID: ProjectID,
		Logger:    slog.New(slog.DiscardHandler),
		HTTPClient: &http.Client{Transport: RoundTripper(func(r *http.Request) (*http.Response, error) {
			res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r}
			content := keys
			if !strings.HasPrefix(r.URL.Path, KeysPath) {
				var body []byte
				if r.Body != nil {
					var err error
					if body, err = io.ReadAll(r.Body); err != nil {
						return nil, err
					}
				}
				res.StatusCode, res.Header, content = answer(r, body)
			}
			res.Body = io.NopCloser(strings.NewReader(content))
			return res, nil
		})},
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	a, err := descopehttp.New(cfg)
	require.NoError(t, err)
	return a
}
