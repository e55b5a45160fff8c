package descopetest

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// signUp makes a user who becomes one with the first code, and a key for it.
func (s *Server) signUp(c *call) answer {
	var in struct {
		LoginID string   `json:"loginId"`
		User    *profile `json:"user"`
	}
	bad := decode(c.body, &in)
	if bad == nil {
		bad = checkLoginID(in.LoginID)
	}
	if bad != nil {
		return bad.answer()
	}
	secret, bad := s.enrol(in.LoginID, in.User)
	if bad != nil {
		return bad.answer()
	}
	return reply(http.StatusOK, newKeyAnswer(in.LoginID, secret))
}

// A profile is what a sign-up may say about the user.
type profile struct {
	Name          string `json:"name"`
	Email         string `json:"email"`
	Phone         string `json:"phone"`
	GivenName     string `json:"givenName"`
	MiddleName    string `json:"middleName"`
	FamilyName    string `json:"familyName"`
	RecoveryEmail string `json:"recoveryEmail"`
	RecoveryPhone string `json:"recoveryPhone"`
}

func (s *Server) enrol(loginID string, p *profile) (secret string, bad *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[loginID]
	bad = s.totpRefused(u)
	switch {
	case bad != nil:
		return "", bad
	case u != nil && u.verified != nil:
		return "", s.settings.ExistingUser.because("")
	case u == nil && len(s.users) >= s.settings.MaxUsers:
		return "", s.noMoreUsers()
	case u == nil:
		u = s.newUser(User{LoginID: loginID})
	}
	if p != nil {
		u.Name, u.Email, u.Phone = p.Name, p.Email, p.Phone
		u.names = names{p.GivenName, p.MiddleName, p.FamilyName, p.RecoveryEmail, p.RecoveryPhone}
	}
	u.pending = newAuthenticator()
	return u.pending.secret, nil
}

// update makes a new key for a user. The old one works until a code of the new
// one was verified.
func (s *Server) update(c *call) answer {
	var in struct {
		LoginID string `json:"loginId"`
	}
	bad := decode(c.body, &in)
	if bad == nil {
		bad = checkLoginID(in.LoginID)
	}
	if bad != nil {
		return bad.answer()
	}
	secret, bad := s.replaceKey(in.LoginID, c.token)
	if bad != nil {
		return bad.answer()
	}
	return reply(http.StatusOK, newKeyAnswer(in.LoginID, secret))
}

func (s *Server) replaceKey(loginID, token string) (secret string, bad *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, bad := s.present(token)
	if bad != nil {
		return "", bad
	}
	u := s.users[loginID]
	bad = s.totpRefused(u)
	switch {
	case bad != nil:
		return "", bad
	case u != g.user && s.settings.UpdateChecksLoginID:
		return "", s.settings.Unauthorized.because("")
	case u == nil:
		return "", s.settings.UnknownUser.because("")
	}
	u.pending = newAuthenticator()
	return u.pending.secret, nil
}

// totpRefused is the refusal of all that is done with codes, nil for none. The caller holds
// s.mu.
func (s *Server) totpRefused(u *user) *refusal {
	if s.settings.TOTPDisabled {
		return s.settings.DisabledTOTP.because("")
	}
	return u.refused()
}

// loginOptions are the members of that name that mean something for TOTP.
type loginOptions struct {
	StepUp       bool           `json:"stepup"`
	MFA          bool           `json:"mfa"`
	CustomClaims map[string]any `json:"customClaims"`
	RevokeOthers bool           `json:"revokeOtherSessions"`
}

// verify signs in with a code, the first of which ends a sign-up or an update.
func (s *Server) verify(c *call) answer {
	var in struct {
		LoginID string       `json:"loginId"`
		Code    string       `json:"code"`
		Options loginOptions `json:"loginOptions"`
	}
	bad := decode(c.body, &in)
	if bad == nil {
		bad = checkLoginID(in.LoginID)
	}
	if bad == nil && in.Code == "" {
		bad = missingArgument.because("code is required")
	}
	if bad != nil {
		return bad.answer()
	}
	i, firstSeen, bad := s.logIn(c, in.LoginID, in.Code, in.Options)
	if bad != nil {
		return bad.answer()
	}
	return s.issueTokens(i, firstSeen)
}

func (s *Server) logIn(c *call, loginID, code string, o loginOptions) (i *issue, firstSeen bool, bad *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[loginID]
	if bad := s.totpRefused(u); bad != nil {
		return nil, false, bad
	}
	if u == nil {
		return nil, false, s.settings.UnknownUser.because("")
	}
	// A refresh token that comes along with a plain sign-in does not matter:
	// browsers send what they have.
	var earlier *grant
	if o.StepUp || o.MFA {
		if earlier, bad = s.present(c.token); bad != nil {
			return nil, false, bad
		}
		if earlier.user != u {
			return nil, false, s.settings.InvalidToken.because("")
		}
	}
	if !s.room() {
		return nil, false, s.noMoreTokens()
	}
	firstSeen, bad = s.acceptCode(u, code)
	if bad != nil {
		return nil, false, bad
	}
	g, bad := s.newGrant(u, factors(earlier, o))
	if bad != nil {
		return nil, false, bad
	}
	if earlier != nil {
		g.tenant, g.nsec = earlier.tenant, earlier.nsec
		if s.settings.spends(s.settings.StepUpFate) {
			earlier.state = grantSpent
		}
	}
	if len(o.CustomClaims) > 0 {
		nsec, err := json.Marshal(o.CustomClaims)
		if err != nil {
			panic("descopetest: encoding what was decoded: " + err.Error())
		}
		g.nsec = nsec
	}
	if o.RevokeOthers {
		u.revoke(g)
	}
	u.remember(clientIP(c.request), g.tenant)
	return s.plan(g, o.StepUp), firstSeen, nil
}

// factors returns the "amr" of a sign-in: a step-up proves nothing new, MFA
// adds to what the earlier sign-in proved.
func factors(earlier *grant, o loginOptions) []string {
	if earlier == nil {
		return []string{"totp"}
	}
	amr := slices.Clone(earlier.amr)
	if o.MFA {
		for _, factor := range []string{"totp", "mfa"} {
			if !slices.Contains(amr, factor) {
				amr = append(amr, factor)
			}
		}
	}
	return amr
}

// acceptCode uses up a code of u's, and makes a pending key the verified one if
// the code is of that. The caller holds s.mu.
func (s *Server) acceptCode(u *user, code string) (firstSeen bool, bad *refusal) {
	if n := s.settings.MaxAttempts; n > 0 && u.failures >= n {
		return false, s.settings.TooManyAttempts.because("")
	}
	now, drift := time.Now(), s.settings.Drift
	replayed := false
	for _, a := range []*authenticator{u.pending, u.verified} {
		if a == nil {
			continue
		}
		step, ok, again := a.match(code, now, drift)
		if !ok && !(again && s.settings.AllowCodeReuse) {
			replayed = replayed || again
			continue
		}
		a.use(step, now, drift)
		u.failures = 0
		firstSeen = u.verified == nil
		if a == u.pending {
			u.verified, u.pending = a, nil
		}
		return firstSeen, nil
	}
	if replayed {
		return false, s.settings.ReplayedCode.because("")
	}
	u.failures++
	return false, s.settings.WrongCode.because("")
}

// refresh issues a session token, and a refresh token where they rotate.
func (s *Server) refresh(c *call) answer {
	bad := checkRefresh(c)
	if bad != nil {
		return bad.answer()
	}
	i, bad := s.renew(c.token)
	if bad != nil {
		return bad.answer()
	}
	return s.issueTokens(i, false)
}

// tryRefresh is refresh for callers who may have no session: that is no error.
// Its answer leaves out what is empty.
func (s *Server) tryRefresh(c *call) answer {
	bad := checkRefresh(c)
	if bad != nil {
		return bad.answer()
	}
	i, bad := s.renew(c.token)
	switch {
	case bad == nil:
	case bad.Failure == projectFull:
		return bad.answer()
	default:
		return reply(http.StatusOK, struct{}{})
	}
	t, header := s.mint(i).tokens(&i.settings)
	body, err := json.Marshal(t, json.OmitZeroStructFields(true), json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("descopetest: encoding an answer: " + err.Error())
	}
	a := reply(http.StatusOK, jsontext.Value(body))
	maps.Copy(a.header, header)
	return a
}

func checkRefresh(c *call) *refusal {
	var in struct {
		ExternalToken string `json:"externalToken"`
	}
	return decode(c.body, &in)
}

func (s *Server) renew(token string) (*issue, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, bad := s.present(token)
	if bad != nil {
		return nil, bad
	}
	g.used = time.Now()
	if s.settings.RotateRefresh {
		next, bad := s.succeed(g, TokenSpent)
		if bad != nil {
			return nil, bad
		}
		return s.plan(next, false), nil
	}
	i := s.planSession(g, false)
	if s.settings.EchoRefresh {
		i.echo = token
	}
	return i, nil
}

func (s *Server) logout(c *call) answer {
	return s.end(c, func(g *grant) { g.state = grantRevoked })
}

func (s *Server) logoutAll(c *call) answer {
	return s.end(c, func(g *grant) { g.user.revoke(nil) })
}

// end revokes refresh tokens. Session tokens live on, as at Descope: whoever
// checks them does not ask.
func (s *Server) end(c *call, revoke func(*grant)) answer {
	var in struct {
		LogoutType []string `json:"logoutType"`
	}
	if bad := decode(c.body, &in); bad != nil {
		return bad.answer()
	}
	s.mu.Lock()
	g, bad := s.present(c.token)
	if bad == nil {
		revoke(g)
	}
	settings := s.settings
	s.mu.Unlock()
	if bad != nil {
		return bad.answer()
	}
	a := reply(http.StatusOK, sessionAnswer{tokenAnswer: settings.cookies().full()})
	if settings.TokensInCookies {
		settings.addCookie(a.header, sessionKind, "", 0)
		settings.addCookie(a.header, refreshKind, "", 0)
	}
	return a
}

func (s *Server) me(c *call) answer {
	s.mu.Lock()
	g, bad := s.present(c.token)
	if bad != nil {
		s.mu.Unlock()
		return bad.answer()
	}
	user := g.user.answer()
	s.mu.Unlock()
	return reply(http.StatusOK, user)
}

func (s *Server) history(c *call) answer {
	s.mu.Lock()
	g, bad := s.present(c.token)
	if bad != nil {
		s.mu.Unlock()
		return bad.answer()
	}
	list := slices.Clone(g.user.history)
	s.mu.Unlock()
	return reply(http.StatusOK, list)
}

// A tenantAnswer is one of me/tenants.
type tenantAnswer struct {
	ID               string         `json:"id"`
	Name             string         `json:"name"`
	CustomAttributes map[string]any `json:"customAttributes"`
}

// myTenants answers with the current tenant, with those asked for, or with all
// that the user is a member of.
func (s *Server) myTenants(c *call) answer {
	var in struct {
		DCT bool     `json:"dct"`
		IDs []string `json:"ids"`
	}
	if bad := decode(c.body, &in); bad != nil {
		return bad.answer()
	}
	if in.DCT && len(in.IDs) > 0 {
		return invalidArgument.because("dct and ids exclude each other").answer()
	}
	s.mu.Lock()
	g, bad := s.present(c.token)
	if bad != nil {
		s.mu.Unlock()
		return bad.answer()
	}
	all, current := g.user.tenants(), g.tenant
	s.mu.Unlock()

	list := []tenantAnswer{}
	for _, t := range all {
		if in.DCT && t.TenantID != current || len(in.IDs) > 0 && !slices.Contains(in.IDs, t.TenantID) {
			continue
		}
		list = append(list, tenantAnswer{ID: t.TenantID, Name: t.TenantName})
	}
	return reply(http.StatusOK, struct {
		Tenants []tenantAnswer `json:"tenants"`
	}{list})
}

// selectTenant issues tokens with another current tenant.
func (s *Server) selectTenant(c *call) answer {
	var in struct {
		Tenant string `json:"tenant"`
	}
	bad := decode(c.body, &in)
	if bad == nil && in.Tenant == "" {
		bad = missingArgument.because("tenant is required")
	}
	if bad != nil {
		return bad.answer()
	}
	i, bad := s.moveTo(in.Tenant, c.token)
	if bad != nil {
		return bad.answer()
	}
	return s.issueTokens(i, false)
}

// moveTo plans tokens in tenant. The refresh token is a new one, rotation or
// not, since it carries the tenant.
func (s *Server) moveTo(tenant, token string) (*issue, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, bad := s.present(token)
	if bad != nil {
		return nil, bad
	}
	if _, ok := g.user.Tenants[tenant]; !ok {
		return nil, invalidArgument.because("the user is not a member of the tenant")
	}
	next, bad := s.succeed(g, s.settings.SelectFate)
	if bad != nil {
		return nil, bad
	}
	next.tenant = tenant
	return s.plan(next, false), nil
}

// validate answers with the claims of a session token.
func (s *Server) validate(c *call) answer {
	if bad := decode(c.body, &struct{}{}); bad != nil {
		return bad.answer()
	}
	s.mu.Lock()
	invalid, drn := s.settings.InvalidToken, s.settings.drn(sessionKind)
	keys := slices.Clone(s.keys)
	s.mu.Unlock()
	claims, ok := openSession(keys, c.token, drn)
	if !ok {
		return invalid.because("").answer()
	}
	return reply(http.StatusOK, withTimes(claims))
}

// withTimes returns claims with their times as validate has them.
func withTimes(claims jsontext.Value) map[string]any {
	var all map[string]any
	if err := json.Unmarshal(claims, &all); err != nil {
		panic("descopetest: decoding what was signed: " + err.Error())
	}
	for _, name := range []string{"exp", "iat"} {
		if seconds, ok := all[name].(float64); ok {
			all[name] = rfc3339(int64(seconds))
		}
	}
	return all
}

// openSession returns the claims of a session token that one of keys has
// signed and that has not expired.
func openSession(keys []*signingKey, token, drn string) (jsontext.Value, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	var header struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	var claims struct {
		DRN string  `json:"drn"`
		Exp float64 `json:"exp"`
	}
	h, errH := decodePart(parts[0])
	p, errP := decodePart(parts[1])
	sig, errS := decodePart(parts[2])
	if errH != nil || errP != nil || errS != nil ||
		json.Unmarshal(h, &header) != nil || json.Unmarshal(p, &claims) != nil {
		return nil, false
	}
	if claims.DRN != drn || claims.Exp <= float64(time.Now().Unix()) {
		return nil, false
	}
	signed := slices.ContainsFunc(keys, func(k *signingKey) bool {
		return k.id == header.Kid && k.method.Alg() == header.Alg && k.verify(parts[0]+"."+parts[1], sig)
	})
	return jsontext.Value(p), signed
}

// issueTokens signs the tokens of i and answers with them.
func (s *Server) issueTokens(i *issue, firstSeen bool) answer {
	t, header := s.mint(i).tokens(&i.settings)
	a := reply(http.StatusOK, sessionAnswer{tokenAnswer: t.full(), User: i.user, FirstSeen: firstSeen})
	maps.Copy(a.header, header)
	return a
}

func checkLoginID(loginID string) *refusal {
	switch {
	case loginID == "":
		return missingArgument.because("loginId is required")
	case len(loginID) > maxLoginID:
		return invalidRequest.because("loginId is too long")
	}
	return nil
}

// clientIP returns the host of the request's peer.
func clientIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
