package token

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each rule refuses what is wrong in its eyes by itself. From outside, one rule that
// is missing may hide behind another that refuses the same token for another reason.
//
// Rule: tokens: against a token of another project, or one that names the project somewhere
// else in `iss`: `iss` is the project's id, or a URL that ends in it.
// Rule: tokens: against `exp` that is 0, missing, a string, or too large; `crit`; names twice
// or in another case; two JSON values; broken UTF-8: a strict decoder and rules of our own;
// golang-jwt's parser is not used.
// Rule: tokens: against one token in two spellings (line breaks, padding, loose bits): strict
// base64url, and no line breaks.
// Rule: tokens: against a token bound to a key (`cnf`) replayed as a plain bearer: refused.
// Rule: tokens: 16 KiB at most, before anything is decoded.
// Rule: tokens: three parts; no line breaks; no name that differs from a registered one by
// case; no `crit`; `exp` is required, a number, over 0, up to the year 9999; `nbf` and `iat`
// are numbers; `iss` is the project; `iss` as a URL: http or https, a host, the id last or
// second to last; `sub` is a non-empty string; no `cnf`.
// Rule: tokens: strict base64url in each part; `kid` is a non-empty string; `aud` is a string
// or strings.
// Rule: tokens: header and claims: one JSON object, unique names, valid UTF-8.
// Rule: tokens: `alg` is RS256, ES256 or ES384.
// Rule: tokens: `drn` is that of the kind of token expected.
// Rule: tokens: OAuth tokens: only with AcceptOAuth, as sessions, without `drn`, `token_type`
// access_token.
// Rule: tokens: `aud` holds the audience; of refresh tokens where they have one.
func TestReasonOfARefusal(t *testing.T) {
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	const project = "P2abcdefghijklmnopqrstuvwxyz"
	rules := &Rules{ProjectID: project, Audience: "shop", AcceptOAuth: true, Leeway: time.Second}
	const header = `{"alg":"RS256","kid":"a"}`
	const claims = `{"iss":"` + project + `","sub":"U2ada","drn":"DS","aud":"shop","exp":4102444800}`
	token := func(header, claims string) string { return b64(header) + "." + b64(claims) + ".AAAA" }
	good := token(header, claims)
	_, err := rules.Parse(good, SessionDRN)
	require.NoError(t, err)

	for want, tokens := range map[error][]string{
		ErrSize: {good + strings.Repeat("A", MaxSize)},
		errParts: {
			"", ".", "a", "a.", b64(header) + "." + b64(claims), good + ".", good + ".AAAA",
			good + "\n", "\r" + good, good[:5] + "\n" + good[5:], good[:len(good)-1] + "\r\n" + good[len(good)-1:],
			good + "=", good + "+", good + "!", "=" + good, b64(header) + ".A." + "AAAA", b64(header) + "." + b64(claims) + "=.AAAA",
			b64(header) + "." + b64(claims) + ".AB", // bits left over
		},
		errHeader: {
			token("", claims), token("null", claims), token("[]", claims), token("7", claims), token(header+header, claims), token(header+" x", claims),
			token(`{"alg":"RS256","kid":"a","x":1,"x":2}`, claims), token(`{"alg":"RS256","kid":"a","x":"`+"\xff"+`"}`, claims), token(`{"alg":"RS256","kid":"a"`, claims),
			token(`{"alg":"RS256","kid":"a","alg":"RS256"}`, claims),
		},
		errAlg: {token(`{"kid":"a"}`, claims), token(`{"alg":"none","kid":"a"}`, claims), token(`{"alg":"HS256","kid":"a"}`, claims), token(`{"alg":"","kid":"a"}`, claims),
			token(`{"alg":"rs256","kid":"a"}`, claims), token(`{"alg":"RS384","kid":"a"}`, claims), token(`{"alg":"ES512","kid":"a"}`, claims), token(`{"alg":"PS256","kid":"a"}`, claims), token(`{"alg":"EdDSA","kid":"a"}`, claims)},
		errKid:  {token(`{"alg":"RS256"}`, claims), token(`{"alg":"RS256","kid":""}`, claims)},
		errCrit: {token(`{"alg":"RS256","kid":"a","crit":[]}`, claims), token(`{"alg":"RS256","kid":"a","crit":null}`, claims), token(`{"alg":"RS256","kid":"a","\u0063rit":["exp"]}`, claims)},
		errName: {token(`{"alg":"RS256","Alg":"none","kid":"a"}`, claims), token(`{"alg":"RS256","KID":"b","kid":"a"}`, claims), token(`{"alg":"RS256","kid":"a","CRIT":[]}`, claims),
			token(header, edit(claims, `"sub"`, `"Sub":"U2bob","sub"`)), token(header, edit(claims, `"exp"`, `"eXp":1,"exp"`)), token(header, edit(claims, `"iss"`, `"i\u017fs":"x","iss"`)), token(header, edit(claims, `"drn"`, `"DRN":"DS","drn"`))},
		errClaims: {
			token(header, ""), token(header, "null"), token(header, "[]"), token(header, `"x"`), token(header, claims+"{}"), token(header, edit(claims, `}`, ``)),
			token(header, edit(claims, `"sub"`, `"sub":"U2bob","sub"`)), token(header, edit(claims, `"sub"`, `"x":1,"x":2,"sub"`)), token(header, edit(claims, `"sub"`, `"x":{"a":1,"a":1},"sub"`)),
			token(header, edit(claims, `"sub"`, `"x":"`+"\xff"+`","sub"`)), token(header, edit(claims, `"sub"`, `"x":"\ud800","sub"`)), token(header, edit(claims, `"sub"`, `"`+"\xff"+`":1,"sub"`)),
			token(header, edit(claims, `"sub"`, `"x":[,"sub"`)), token(header, edit(claims, `"sub":"U2ada"`, `"sub":[,`)), token(header, `["sub","U2ada"]`),
		},
		errType: {
			token(header, edit(claims, `"exp":4102444800`, `"exp":"4102444800"`)), token(header, edit(claims, `"exp":4102444800`, `"exp":null`)), token(header, edit(claims, `"exp":4102444800`, `"exp":true`)), token(header, edit(claims, `"exp":4102444800`, `"exp":[]`)),
			token(header, edit(claims, `"sub":"U2ada"`, `"sub":7`)), token(header, edit(claims, `"sub":"U2ada"`, `"sub":null`)), token(header, edit(claims, `"iss":"`+project+`"`, `"iss":["`+project+`"]`)), token(header, edit(claims, `"drn":"DS"`, `"drn":["DS"]`)),
			token(header, edit(claims, `"sub"`, `"nbf":"0","sub"`)), token(header, edit(claims, `"sub"`, `"iat":{},"sub"`)), token(header, edit(claims, `"aud":"shop"`, `"aud":7`)), token(header, edit(claims, `"aud":"shop"`, `"aud":["shop",7]`)), token(header, edit(claims, `"aud":"shop"`, `"aud":null`)), token(header, edit(claims, `"aud":"shop"`, `"aud":{}`)),
			token(`{"alg":7,"kid":"a"}`, claims), token(`{"alg":"RS256","kid":7}`, claims), token(`{"alg":"RS256","kid":null}`, claims),
		},
		errExpiry: {token(header, edit(claims, `,"exp":4102444800`, ``)), token(header, edit(claims, `4102444800`, `0`)), token(header, edit(claims, `4102444800`, `-1`)), token(header, edit(claims, `4102444800`, `0.9`)),
			token(header, edit(claims, `4102444800`, `253402300800`)), token(header, edit(claims, `4102444800`, `1e400`)), token(header, edit(claims, `4102444800`, `-1e400`))},
		errIssuer: {token(header, edit(claims, `"iss":"`+project+`",`, ``)), token(header, edit(claims, project, "P2other")), token(header, edit(claims, project, "//x/"+project)), token(header, edit(claims, project, "ftp://x/"+project)),
			token(header, edit(claims, project, "https:///"+project)), token(header, edit(claims, project, "https://x/"+project+"/a/b")), token(header, edit(claims, project, "https://x/a?"+project)), token(header, edit(claims, project, "https://x/%zz/"+project)), token(header, edit(claims, project, "https://x/a#/"+project))},
		errSubject: {token(header, edit(claims, `"sub":"U2ada",`, ``)), token(header, edit(claims, `U2ada`, ``)), token(header, edit(claims, `"sub":"U2ada"`, `"dsub":"U2ada"`))},
		errBound:   {token(header, edit(claims, `"sub"`, `"cnf":{"jkt":"x"},"sub"`)), token(header, edit(claims, `"sub"`, `"cnf":null,"sub"`))},
		errKind:    {token(header, edit(claims, `"DS"`, `"DSR"`)), token(header, edit(claims, `"drn":"DS",`, ``)), token(header, edit(claims, `"DS"`, `"ds"`)), token(header, edit(claims, `"drn":"DS"`, `"token_type":"id_token"`)), token(header, edit(claims, `"drn":"DS"`, `"drn":"X","token_type":"access_token"`))},
		errAudience: {token(header, edit(claims, `"aud":"shop",`, ``)), token(header, edit(claims, `"shop"`, `"Shop"`)), token(header, edit(claims, `"shop"`, `[]`)), token(header, edit(claims, `"shop"`, `["a","b"]`)),
			token(header, edit(claims, `"aud":"shop","exp"`, `"token_type":"access_token","exp"`))},
	} {
		for _, raw := range tokens {
			got, err := rules.Parse(raw, SessionDRN)
			assert.Equal(t, want, err, "%.200s", raw)
			assert.Nil(t, got)
		}
	}
	for _, claims := range []string{
		edit(claims, `"DS"`, `"DS","token_type":7`), edit(claims, `"shop"`, `["a","shop"]`), edit(claims, `"drn":"DS"`, `"token_type":"access_token"`), edit(claims, `4102444800`, `1`), edit(claims, `4102444800`, `253402300799`),
		edit(claims, `"sub"`, `"dsub":7,"rexp":7,"sub"`), edit(claims, `"sub"`, `"\u0078":1,"sub"`), edit(claims, `"s`, `"\u0073`), edit(claims, project, "http://x/"+project+"/T2"), edit(claims, `"sub"`, `"subs":1,"ｓub":2,"sub"`),
	} {
		_, err := rules.Parse(token(header, claims), SessionDRN)
		assert.NoError(t, err, claims)
	}

	// A refresh token is one by its drn alone, and OAuth has no say in it.
	refresh := edit(claims, `"DS"`, `"DSR"`)
	for claims, want := range map[string]error{
		refresh: nil, edit(refresh, `"aud":"shop",`, ``): nil, edit(refresh, `"shop"`, `"other"`): errAudience,
		claims: errKind, edit(claims, `"drn":"DS"`, `"token_type":"access_token"`): errKind,
	} {
		_, err := rules.Parse(token(header, claims), RefreshDRN)
		if want == nil {
			assert.NoError(t, err, claims)
		} else {
			assert.Equal(t, want, err, claims)
		}
	}
}

// edit replaces old, which must be there, by new.
func edit(s, old, new string) string {
	if !strings.Contains(s, old) {
		panic(old + " is not there")
	}
	return strings.Replace(s, old, new, 1)
}

// exp and nbf are judged to the nanosecond, with the leeway on the token's side.
//
// Rule: tokens: against `exp` that is 0, missing, a string, or too large; `crit`; names twice
// or in another case; two JSON values; broken UTF-8: a strict decoder and rules of our own;
// golang-jwt's parser is not used.
// Rule: tokens: `exp` has not passed, `nbf` has, with the leeway.
func TestTimeOfAToken(t *testing.T) {
	rules := &Rules{Leeway: 5 * time.Second}
	now := time.Unix(1e9, 0)
	for _, tt := range []struct {
		expiry, notBefore time.Duration
		want              error
	}{
		{time.Hour, -time.Hour, nil},
		{-5*time.Second + 1, 0, nil},
		{-5 * time.Second, 0, ErrExpired},
		{time.Hour, 5 * time.Second, nil},
		{time.Hour, 5*time.Second + 1, errNotYet},
		{-time.Hour, time.Hour, ErrExpired},
	} {
		err := rules.CheckTime(&Claims{Expiry: now.Add(tt.expiry), NotBefore: now.Add(tt.notBefore)}, now)
		if tt.want == nil {
			assert.NoError(t, err)
		} else {
			assert.Equal(t, tt.want, err)
		}
	}
	assert.NoError(t, rules.CheckTime(&Claims{Expiry: now}, now), "without nbf")
}

// Headers are remembered to a bound, and each by its own text.
//
// Rule: tokens: remembered headers are bounded.
func TestHeaderMemoIsBounded(t *testing.T) {
	m, key := new(headerMemo), new(Key)
	const limit = 32
	for i := range 5 * limit {
		segment := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"` + strconv.Itoa(i) + `"}`))
		h, err := m.decode(segment)
		require.NoError(t, err)
		require.Nil(t, h.key, "not seen before")
		m.remember(h, key)
		require.Len(t, *m.known.Load(), i%limit+1, "remembered up to the bound, and then anew")
		again, err := m.decode(segment)
		require.NoError(t, err)
		require.Same(t, key, again.key)
		require.Equal(t, strconv.Itoa(i), again.kid)
	}
}

// Rule: tokens: against a token made to be expensive (16 KiB of nesting, members, escapes):
// refused over 16 KiB before anything is allocated; at most 1 MiB and 5,000 objects at 16 KiB.
// Rule: tokens: 16 KiB at most, before anything is decoded.
func TestTokenSizeLimit(t *testing.T) {
	rules := &Rules{}
	at := strings.Repeat("A", MaxSize-2) + ".."
	_, err := rules.Parse(at, SessionDRN)
	assert.NotEqual(t, ErrSize, err)
	_, err = rules.Parse(at+"A", SessionDRN)
	assert.Equal(t, ErrSize, err)
}
