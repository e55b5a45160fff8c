package descopetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Bounds of what is kept of one user.
const (
	maxLoginID = 256 // bytes; the QR code has to hold it
	maxHistory = 10  // sign-ins
)

// A User is a person whom the project knows.
type User struct {
	// LoginID is the name the user signs in with. Required, at most 256 bytes.
	LoginID string

	// ID is the user's id, the claim "sub" of all tokens. Default: one that nobody else has.
	ID string

	// Name, Email and Phone are shown by /v1/auth/me and with tokens.
	Name, Email, Phone string

	// Roles and Permissions are those of the project as a whole.
	Roles, Permissions []string

	// Tenants are the user's memberships by tenant id.
	Tenants map[string]Tenant

	// Tenant is the id of the current tenant, the claim "dct" of new tokens.
	// It must be "" or one of Tenants.
	Tenant string

	// CustomClaims are added to all tokens of the user, as a JWT template would;
	// they do not replace claims of Descope's own. The values must be ones that
	// JSON can hold.
	CustomClaims map[string]any
}

// A Tenant is what a [User] is in one tenant.
type Tenant struct {
	// Name is the tenant's name, shown with the user's memberships.
	Name string

	// Roles and Permissions are those within the tenant.
	Roles, Permissions []string
}

// A user is a User and what the project holds of it. It is guarded by Server.mu.
type user struct {
	User
	created time.Time
	names   names

	verified *authenticator // nil until a code was verified
	pending  *authenticator // a new key that no code was verified with
	failures int            // wrong codes since the last right one
	refusal  Failure        // what is answered to all that is about the user; the zero value for none

	grants  map[*grant]bool // the refresh tokens that are remembered
	history []login         // latest first
}

// names are the parts of a profile that only a sign-up sets.
type names struct {
	Given, Middle, Family        string
	RecoveryEmail, RecoveryPhone string
}

// A login is one entry of /v1/auth/me/history.
type login struct {
	UserID         string `json:"userId"`
	LoginTime      int64  `json:"loginTime"`
	City           string `json:"city"`
	Country        string `json:"country"`
	IP             string `json:"ip"`
	SelectedTenant string `json:"selectedTenant"`
}

// AddUser adds a user with a verified authenticator, whose codes are to be had
// from [Server.Code]. It copies u. It panics on a LoginID that is empty, too
// long or taken, on an ID that is taken, on a current tenant that is not one of
// Tenants, and beyond [Settings.MaxUsers].
func (s *Server) AddUser(u User) {
	if u.LoginID == "" || len(u.LoginID) > maxLoginID {
		panic(fmt.Sprintf("descopetest: AddUser with a LoginID of %d bytes", len(u.LoginID)))
	}
	if _, ok := u.Tenants[u.Tenant]; u.Tenant != "" && !ok {
		panic(fmt.Sprintf("descopetest: AddUser with current tenant %q, which is not among Tenants", u.Tenant))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[u.LoginID] != nil {
		panic(fmt.Sprintf("descopetest: AddUser with LoginID %q, which exists", u.LoginID))
	}
	if u.ID != "" && s.hasID(u.ID) {
		panic(fmt.Sprintf("descopetest: AddUser with ID %q, which exists", u.ID))
	}
	if len(s.users) >= s.settings.MaxUsers {
		panic("descopetest: AddUser: " + s.noMoreUsers().message)
	}
	s.newUser(u.clone()).verified = newAuthenticator()
}

// HasUser reports whether the project knows loginID. A user is known from the
// sign-up on, before the first code is verified.
func (s *Server) HasUser(loginID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[loginID] != nil
}

// hasID reports whether a user has that ID. The caller holds s.mu.
func (s *Server) hasID(id string) bool {
	for _, u := range s.users {
		if u.ID == id {
			return true
		}
	}
	return false
}

// Code returns the code that the authenticator app of loginID shows now. After
// a sign-up or an update, as long as no code was verified with the new key, it
// is the code of that key. It panics if there is no such user.
func (s *Server) Code(loginID string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.mustUser("Code", loginID)
	a := u.pending
	if a == nil {
		a = u.verified
	}
	return codeOf(a.secret, stepAt(time.Now()))
}

// LogOut revokes all refresh tokens of loginID, as an administrator does.
// Session tokens stay good until they expire. It panics if there is no such user.
func (s *Server) LogOut(loginID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustUser("LogOut", loginID).revoke(nil)
}

// Refuse has every call that is about loginID answered with f, one with a right code or a
// good token included: the user was locked, disabled or deleted, in whatever words Descope has
// for it. The zero Failure ends it. It panics if there is no such user, and on a status
// that is no error's.
func (s *Server) Refuse(loginID string, f Failure) {
	if f != (Failure{}) {
		f.check()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustUser("Refuse", loginID).refusal = f
}

// refused returns what is answered in place of all else that is about u, nil for nothing.
// u may be nil.
func (u *user) refused() *refusal {
	if u == nil || u.refusal == (Failure{}) {
		return nil
	}
	return u.refusal.because("")
}

// newUser adds a user. The caller holds s.mu.
func (s *Server) newUser(u User) *user {
	u.ID = cmp.Or(u.ID, "U"+randomID())
	n := &user{User: u, created: time.Now(), grants: map[*grant]bool{}}
	s.users[u.LoginID] = n
	return n
}

// noMoreUsers is the refusal at MaxUsers. The caller holds s.mu.
func (s *Server) noMoreUsers() *refusal {
	return projectFull.because(fmt.Sprintf("the project holds %d users and takes no more (MaxUsers)", s.settings.MaxUsers))
}

func (s *Server) mustUser(caller, loginID string) *user {
	u := s.users[loginID]
	if u == nil {
		panic(fmt.Sprintf("descopetest: %s of %q, which is no user", caller, loginID))
	}
	return u
}

// revoke ends every live refresh token of u but keep.
func (u *user) revoke(keep *grant) {
	for g := range u.grants {
		if g != keep && g.state == grantLive {
			g.state = grantRevoked
		}
	}
}

// remember puts a sign-in into the history.
func (u *user) remember(ip, tenant string) {
	entry := login{UserID: u.ID, LoginTime: time.Now().Unix(), IP: ip, SelectedTenant: tenant}
	u.history = slices.Insert(u.history, 0, entry)
	u.history = u.history[:min(len(u.history), maxHistory)]
}

// A userAnswer is a user on the wire. The names in upper case are Descope's:
// its JavaScript clients read them exactly so.
type userAnswer struct {
	LoginIDs              []string        `json:"loginIds"`
	UserID                string          `json:"userId"`
	Name                  string          `json:"name"`
	Email                 string          `json:"email"`
	Phone                 string          `json:"phone"`
	VerifiedEmail         bool            `json:"verifiedEmail"`
	VerifiedPhone         bool            `json:"verifiedPhone"`
	RoleNames             []string        `json:"roleNames"`
	UserTenants           []userTenant    `json:"userTenants"`
	Status                string          `json:"status"`
	ExternalIDs           []string        `json:"externalIds"`
	Picture               string          `json:"picture"`
	Test                  bool            `json:"test"`
	CustomAttributes      map[string]any  `json:"customAttributes"`
	CreatedTime           int64           `json:"createdTime"`
	TOTP                  bool            `json:"TOTP"`
	SAML                  bool            `json:"SAML"`
	OAuth                 map[string]bool `json:"OAuth"`
	WebAuthn              bool            `json:"webauthn"`
	Password              bool            `json:"password"`
	SSOAppIDs             []string        `json:"ssoAppIds"`
	GivenName             string          `json:"givenName"`
	MiddleName            string          `json:"middleName"`
	FamilyName            string          `json:"familyName"`
	Editable              bool            `json:"editable"`
	SCIM                  bool            `json:"SCIM"`
	Push                  bool            `json:"push"`
	Permissions           []string        `json:"permissions"`
	OIDC                  bool            `json:"OIDC"`
	ConsentExpiration     int64           `json:"consentExpiration"`
	RecoveryEmail         string          `json:"recoveryEmail"`
	VerifiedRecoveryEmail bool            `json:"verifiedRecoveryEmail"`
	RecoveryPhone         string          `json:"recoveryPhone"`
	VerifiedRecoveryPhone bool            `json:"verifiedRecoveryPhone"`
	ModifiedTime          int64           `json:"modifiedTime"`
}

type userTenant struct {
	TenantID    string   `json:"tenantId"`
	TenantName  string   `json:"tenantName"`
	RoleNames   []string `json:"roleNames"`
	Permissions []string `json:"permissions"`
}

// answer shows u as it is now. The slices are never changed after AddUser, so
// the answer may be encoded without the lock.
func (u *user) answer() *userAnswer {
	return &userAnswer{
		LoginIDs:      []string{u.LoginID},
		UserID:        u.ID,
		Name:          u.Name,
		Email:         u.Email,
		Phone:         u.Phone,
		RoleNames:     u.Roles,
		UserTenants:   u.tenants(),
		Status:        "enabled",
		ExternalIDs:   []string{u.LoginID},
		CreatedTime:   u.created.Unix(),
		TOTP:          u.verified != nil,
		GivenName:     u.names.Given,
		MiddleName:    u.names.Middle,
		FamilyName:    u.names.Family,
		Editable:      true,
		Permissions:   u.Permissions,
		RecoveryEmail: u.names.RecoveryEmail,
		RecoveryPhone: u.names.RecoveryPhone,
		ModifiedTime:  u.created.Unix(),
	}
}

func (u *user) tenants() []userTenant {
	list := make([]userTenant, 0, len(u.Tenants))
	for _, id := range slices.Sorted(maps.Keys(u.Tenants)) {
		t := u.Tenants[id]
		list = append(list, userTenant{id, t.Name, t.Roles, t.Permissions})
	}
	return list
}

// clone returns a copy that shares nothing with u.
func (u User) clone() User {
	u.Roles = slices.Clone(u.Roles)
	u.Permissions = slices.Clone(u.Permissions)
	u.Tenants = maps.Clone(u.Tenants)
	for id, t := range u.Tenants {
		t.Roles = slices.Clone(t.Roles)
		t.Permissions = slices.Clone(t.Permissions)
		u.Tenants[id] = t
	}
	u.CustomClaims, _ = cloneJSON(u.CustomClaims).(map[string]any)
	return u
}

// cloneJSON copies the maps and slices that JSON decodes into. Values of other
// types are shared.
func cloneJSON(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v == nil {
			return v
		}
		c := make(map[string]any, len(v))
		for name, value := range v {
			c[name] = cloneJSON(value)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, value := range v {
			c[i] = cloneJSON(value)
		}
		return c
	case []string:
		return slices.Clone(v)
	default:
		return v
	}
}
