package descopetest

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// The values of the claim "drn", which tells session from refresh tokens.
const (
	sessionKind = "DS"
	refreshKind = "DSR"
)

// Tokens are what a sign-in leads to. Printing and logging them shows none.
type Tokens struct {
	Session string // the sessionJwt
	Refresh string // the refreshJwt
}

// Format writes a fixed text for every verb.
func (Tokens) Format(f fmt.State, _ rune) { io.WriteString(f, "descopetest.Tokens(redacted)") }

// LogValue returns a fixed text.
func (Tokens) LogValue() slog.Value { return slog.StringValue("descopetest.Tokens(redacted)") }

// SignIn signs loginID in without a code and returns the tokens. Two calls
// within one second return the same session token, as at Descope, where equal
// claims and RS256 make equal tokens, and different refresh tokens. It panics
// if there is no such user, if no code of the user was verified yet, and beyond
// [Settings.MaxTokens].
func (s *Server) SignIn(loginID string) Tokens {
	return s.signIn("SignIn", loginID, false)
}

// StepUp is [Server.SignIn], but the session token is what a step-up leads to:
// it has the claim "su" and lives for [Settings.StepUpTTL].
func (s *Server) StepUp(loginID string) Tokens {
	return s.signIn("StepUp", loginID, true)
}

// Sign signs any claims with the key that the project signs with now, for
// tokens that should be refused. The header has alg, kid and typ; members of
// header replace them or come on top, and one that is nil is left out.
//
// An alg of "none" leaves the signature empty; HS256, HS384 and HS512 sign with
// the public key's PEM for a secret, the usual confusion attack; RS384, RS512
// and PS256 to PS512 really sign so if the key is RSA. With any other alg the
// header lies and the signature is the key's own.
//
// No call of the project takes a refresh token made by Sign, unless header and
// claims are those of one it has issued: it knows which ones those are. Sign
// panics if JSON cannot hold header or claims.
func (s *Server) Sign(header, claims map[string]any) string {
	s.mu.Lock()
	k := s.currentKey()
	s.mu.Unlock()
	return k.sign(header, claims)
}

// SessionClaims returns the claims that the session token of [Server.SignIn]
// would have now, to be changed and given to [Server.Sign]. It issues nothing.
// It panics if there is no such user.
func (s *Server) SessionClaims(loginID string) map[string]any {
	claims, edit := s.planClaims(loginID)
	if edit != nil {
		edit(sessionKind, claims)
	}
	return claims
}

func (s *Server) planClaims(loginID string) (claims map[string]any, edit func(string, map[string]any)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.mustUser("SessionClaims", loginID)
	g := &grant{user: u, amr: []string{"totp"}, tenant: u.Tenant}
	claims = s.sessionClaims(g, false)
	claims["rexp"] = rfc3339(time.Now().Add(s.settings.RefreshTTL).Unix())
	return claims, s.settings.EditClaims
}

// Honours reports whether a refresh with refreshToken would succeed now. It
// changes nothing, whatever the token is.
func (s *Server) Honours(refreshToken string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.find(refreshToken)
	return g != nil && g.state == grantLive && !s.isIdle(g) && g.user.refused() == nil
}

func (s *Server) signIn(caller, loginID string, stepUp bool) Tokens {
	i := s.planSignIn(caller, loginID, stepUp)
	t := s.mint(i)
	return Tokens{Session: t.session, Refresh: t.refresh}
}

func (s *Server) planSignIn(caller, loginID string, stepUp bool) *issue {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.mustUser(caller, loginID)
	if u.verified == nil {
		panic(fmt.Sprintf("descopetest: %s of %q, who has not verified a code yet", caller, loginID))
	}
	g, bad := s.newGrant(u, []string{"totp"})
	if bad != nil {
		panic("descopetest: " + caller + " beyond MaxTokens")
	}
	u.remember("", g.tenant)
	return s.plan(g, stepUp)
}

// A grant is one refresh token. All but the token itself is guarded by
// Server.mu; of the token only a hash is kept.
type grant struct {
	user    *user
	key     *signingKey
	line    int64 // the same for all that descend from one sign-in
	index   [sha256.Size]byte
	state   grantState
	expires int64 // "exp", in seconds of the epoch
	used    time.Time

	amr    []string
	tenant string         // "dct"
	nsec   jsontext.Value // what the caller asked to have in the session; decoded it would take many times the room
}

type grantState int

const (
	grantLive    grantState = iota
	grantSpent              // replaced by rotation
	grantRevoked            // logged out
	grantVoid               // its key was revoked
)

// newGrant makes room for a refresh token of u that begins a line of its own.
// The caller holds s.mu.
func (s *Server) newGrant(u *user, amr []string) (*grant, *refusal) {
	if !s.room() {
		return nil, s.noMoreTokens()
	}
	s.lines++
	g := &grant{
		user:    u,
		key:     s.currentKey(),
		line:    s.lines,
		expires: time.Now().Add(s.settings.RefreshTTL).Unix(),
		used:    time.Now(),
		amr:     amr,
		tenant:  u.Tenant,
	}
	s.hold(g)
	return g, nil
}

// spends reports whether a token of that fate is spent.
func (t *Settings) spends(fate Fate) bool {
	return fate == TokenSpent || fate == TokenRotates && t.RotateRefresh
}

// succeed makes room for a refresh token that goes on from old, of which fate says what
// becomes. The caller holds s.mu.
func (s *Server) succeed(old *grant, fate Fate) (*grant, *refusal) {
	// The old token is spent first, so that it can make room for the new one.
	if s.settings.spends(fate) {
		old.state = grantSpent
	}
	if !s.room() {
		old.state = grantLive
		return nil, s.noMoreTokens()
	}
	g := *old
	g.state, g.used = grantLive, time.Now()
	g.key = s.currentKey()
	if s.settings.SlideRefreshExpiry {
		g.expires = time.Now().Add(s.settings.RefreshTTL).Unix()
	}
	s.hold(&g)
	return &g, nil
}

func (s *Server) hold(g *grant) {
	g.user.grants[g] = true
	s.held++
}

// room makes sure that one more refresh token may be held, and forgets dead
// ones only when it must: a client should be told how its token died.
// The caller holds s.mu.
func (s *Server) room() bool {
	if s.held < s.settings.MaxTokens {
		return true
	}
	now := time.Now().Unix()
	for index, g := range s.grants {
		if g.state != grantLive || g.expires <= now {
			delete(s.grants, index)
			delete(g.user.grants, g)
			s.held--
		}
	}
	return s.held < s.settings.MaxTokens
}

// noMoreTokens is the refusal when there is no room. The caller holds s.mu.
func (s *Server) noMoreTokens() *refusal {
	return projectFull.because(fmt.Sprintf("the project holds %d live refresh tokens and takes no more (MaxTokens)", s.settings.MaxTokens))
}

// find returns the grant of an unexpired refresh token that the project has
// signed, dead or alive, nil for anything else. The caller holds s.mu.
func (s *Server) find(token string) *grant {
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return nil
	}
	// What was signed names the token; its signature alone might have a second form.
	g := s.grants[sha256.Sum256([]byte(token[:dot]))]
	if g == nil || g.state == grantVoid || g.expires <= time.Now().Unix() {
		return nil
	}
	if s.settings.KeyEndsRefresh && !slices.Contains(s.keys, g.key) {
		return nil
	}
	sig, err := decodePart(token[dot+1:])
	if err != nil || !g.key.verify(token[:dot], sig) {
		return nil
	}
	return g
}

// present returns the live grant of a refresh token that somebody presents.
// The caller holds s.mu.
func (s *Server) present(token string) (*grant, *refusal) {
	g := s.find(token)
	switch {
	case g == nil:
		return nil, s.settings.InvalidToken.because("")
	case g.state == grantRevoked:
		return nil, s.settings.RevokedRefresh.because("")
	case g.state == grantSpent:
		if s.settings.ReuseRevokesFamily {
			for other := range g.user.grants {
				if other.line == g.line && other.state == grantLive {
					other.state = grantRevoked
				}
			}
		}
		return nil, s.settings.SpentRefresh.because("")
	case s.isIdle(g):
		return nil, s.settings.IdleRefresh.because("")
	}
	if bad := g.user.refused(); bad != nil {
		return nil, bad
	}
	return g, nil
}

// isIdle reports whether a refresh token has gone without a refresh for too long. The caller
// holds s.mu.
func (s *Server) isIdle(g *grant) bool {
	timeout := s.settings.InactivityTimeout
	return timeout > 0 && time.Since(g.used) > timeout
}

// An issue is the tokens of one answer on their way. They are decided on under
// Server.mu and signed without it: signing takes time, and EditClaims is not
// ours.
type issue struct {
	grant   *grant
	key     *signingKey
	session map[string]any
	refresh map[string]any // nil: the refresh token is not new
	expires int64          // of the refresh token
	user    *userAnswer
	echo    string // the refresh token to answer with if it is not new

	settings Settings
}

// plan decides on a session token and the refresh token of g, which is new.
// The caller holds s.mu.
func (s *Server) plan(g *grant, stepUp bool) *issue {
	i := s.planSession(g, stepUp)
	i.refresh = s.refreshClaims(g)
	return i
}

// planSession decides on a session token alone. The caller holds s.mu.
func (s *Server) planSession(g *grant, stepUp bool) *issue {
	return &issue{
		grant:   g,
		key:     s.currentKey(),
		session: s.sessionClaims(g, stepUp),
		expires: g.expires,
		user:    g.user.answer(),

		settings: s.settings,
	}
}

func (s *Server) sessionClaims(g *grant, stepUp bool) map[string]any {
	claims := s.claims(g, sessionKind)
	ttl := s.settings.SessionTTL
	if stepUp {
		claims["su"] = true
		ttl = s.settings.StepUpTTL
	}
	claims["exp"] = time.Now().Add(ttl).Unix()
	if g.nsec != nil {
		var nsec map[string]any
		if err := json.Unmarshal(g.nsec, &nsec); err != nil {
			panic("descopetest: decoding what was encoded: " + err.Error())
		}
		claims["nsec"] = nsec
	}
	return claims
}

func (s *Server) refreshClaims(g *grant) map[string]any {
	claims := s.claims(g, refreshKind)
	claims["exp"] = g.expires
	claims["dv"] = 1
	// Without it two sign-ins, or a refresh and its rotation, within one second
	// would have one token, and the end of one were the end of the other. With
	// fake time whole tests happen within one second.
	if !s.settings.OmitRefreshID {
		claims["jti"] = randomID()
	}
	return claims
}

// claims returns what session and refresh tokens have in common. The caller
// holds s.mu.
func (s *Server) claims(g *grant, kind string) map[string]any {
	s.used = true // the project id is about to leave
	u := g.user
	claims, _ := cloneJSON(u.CustomClaims).(map[string]any)
	if claims == nil {
		claims = map[string]any{}
	}
	claims["amr"] = slices.Clone(g.amr)
	claims["drn"] = s.settings.drn(kind)
	claims["iat"] = time.Now().Unix()
	claims["iss"] = s.issuer()
	claims["sub"] = u.ID
	maps.Copy(claims, authorization(u.Roles, u.Permissions))
	if len(u.Tenants) > 0 {
		tenants := make(map[string]any, len(u.Tenants))
		for id, t := range u.Tenants {
			tenants[id] = authorization(t.Roles, t.Permissions)
		}
		claims["tenants"] = tenants
	}
	if g.tenant != "" {
		claims["dct"] = g.tenant
	}
	return claims
}

func authorization(roles, permissions []string) map[string]any {
	claims := map[string]any{}
	if len(roles) > 0 {
		claims["roles"] = slices.Clone(roles)
	}
	if len(permissions) > 0 {
		claims["permissions"] = slices.Clone(permissions)
	}
	return claims
}

func (s *Server) issuer() string {
	if s.settings.Issuer != "" {
		return s.settings.Issuer
	}
	return s.settings.ProjectID
}

// minted is a signed issue.
type minted struct {
	session, refresh string         // refresh is "" if it is neither new nor echoed
	claims           jsontext.Value // of the session token
	sessionExpires   int64
	refreshExpires   int64
}

// mint signs the tokens of i. From its return on the refresh token is known to
// the project. The caller does not hold s.mu.
func (s *Server) mint(i *issue) minted {
	m := minted{refresh: i.echo, refreshExpires: i.expires}
	if i.refresh != nil {
		m.refresh = i.sign(refreshKind, i.refresh)
		m.refreshExpires = s.register(i.grant, m.refresh)
	}
	i.session["rexp"] = rfc3339(m.refreshExpires)
	if exp, ok := i.session["exp"].(int64); ok && i.settings.CapSessionExpiry && exp > m.refreshExpires {
		i.session["exp"] = m.refreshExpires
	}
	m.session = i.sign(sessionKind, i.session)
	m.claims = payloadOf(m.session)
	m.sessionExpires = readPayload(m.claims).expires(0)
	return m
}

func (i *issue) sign(kind string, claims map[string]any) string {
	if i.settings.EditClaims != nil {
		i.settings.EditClaims(kind, claims)
	}
	return i.key.sign(nil, claims)
}

// register makes token the one that g stands for and returns its expiry. It
// follows what the claims say in the end.
func (s *Server) register(g *grant, token string) int64 {
	p := readPayload(payloadOf(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	g.expires = p.expires(g.expires)
	if p.AMR != nil {
		g.amr = p.AMR
	}
	g.index = sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	if old := s.grants[g.index]; old != nil { // EditClaims took the jti away
		delete(old.user.grants, old)
		s.held--
	}
	s.grants[g.index] = g
	return g.expires
}

// A payload is what the project itself reads of a token it has signed.
type payload struct {
	Exp *float64 `json:"exp"`
	AMR []string `json:"amr"`
}

// payloadOf returns the claims of a token that the project has signed.
func payloadOf(token string) jsontext.Value {
	raw, _ := decodePart(strings.Split(token, ".")[1])
	return raw
}

func readPayload(raw jsontext.Value) payload {
	var p payload
	// A template may turn a claim into something else; then it does not count.
	_ = json.Unmarshal(raw, &p)
	return p
}

func (p payload) expires(otherwise int64) int64 {
	if p.Exp == nil {
		return otherwise
	}
	return int64(*p.Exp)
}

// sign returns the token of header and claims; see [Server.Sign].
func (k *signingKey) sign(header, claims map[string]any) string {
	h := map[string]any{"alg": k.method.Alg(), "kid": k.id, "typ": "JWT"}
	for name, value := range header {
		if value == nil {
			delete(h, name)
			continue
		}
		h[name] = value
	}
	alg, _ := h["alg"].(string)
	method, key := k.as(alg)
	token := jwt.Token{Header: h, Claims: jwt.MapClaims(claims), Method: method}
	signed, err := token.SignedString(key)
	if err != nil {
		panic("descopetest: signing: " + err.Error())
	}
	return signed
}

// as returns how the key signs under the name of alg.
func (k *signingKey) as(alg string) (jwt.SigningMethod, any) {
	switch m := jwt.GetSigningMethod(alg).(type) {
	case nil:
	case *jwt.SigningMethodHMAC:
		return m, k.pem()
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		if _, ok := k.private.(*rsa.PrivateKey); ok {
			return m, k.private
		}
	case *jwt.SigningMethodECDSA:
		if p, ok := k.private.(*ecdsa.PrivateKey); ok && p.Params().BitSize == m.CurveBits {
			return m, k.private
		}
	default:
		if m == jwt.SigningMethodNone {
			return jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType
		}
	}
	return k.method, k.private
}

// rfc3339 is a time as in the claim "rexp".
func rfc3339(seconds int64) string {
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

func decodePart(part string) ([]byte, error) {
	return base64.RawURLEncoding.Strict().DecodeString(part)
}
