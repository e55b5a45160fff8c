package descope

import (
	"strings"
	"unicode/utf8"

	"github.com/descopehttp/descopehttp/internal/problem"
)

// Bounds on what is sent.
const (
	maxLoginIDSize = 256 // bytes
	maxProfileSize = 256 // bytes of each field: Descope sends them back with every refresh
	minCodeLength  = 4   // digits; Descope's TOTP codes have 6
	maxCodeLength  = 10
)

// What goes to Descope. A client's own bytes never do: with a name twice, say, they could
// be judged as one user and taken by Descope as another. What a client sends is decoded
// into these, and encoded anew; anything else of it stays here.

// A SignUpRequest begins a sign-up.
type SignUpRequest struct {
	LoginID string `json:"loginId"`
	User    struct {
		Name       string `json:"name,omitzero"`
		Email      string `json:"email,omitzero"`
		Phone      string `json:"phone,omitzero"`
		GivenName  string `json:"givenName,omitzero"`
		MiddleName string `json:"middleName,omitzero"`
		FamilyName string `json:"familyName,omitzero"`
	} `json:"user,omitzero"`
}

// Check says which field is missing or odd.
func (r *SignUpRequest) Check() error {
	u := &r.User
	for name, value := range map[string]string{
		"user.name": u.Name, "user.email": u.Email, "user.phone": u.Phone,
		"user.givenName": u.GivenName, "user.middleName": u.MiddleName, "user.familyName": u.FamilyName,
	} {
		if len(value) > maxProfileSize || !utf8.ValidString(value) {
			return &problem.Failure{Problem: problem.InvalidField, Field: name}
		}
	}
	return CheckLoginID(r.LoginID)
}

// A VerifyRequest has Descope look at a code.
type VerifyRequest struct {
	LoginID string         `json:"loginId"`
	Code    string         `json:"code"`
	Options map[string]any `json:"loginOptions,omitempty"`
}

// An UpdateRequest asks for a new key.
type UpdateRequest struct {
	LoginID string `json:"loginId"`
}

// A TenantsRequest asks for the current tenant, or for those with the ids.
type TenantsRequest struct {
	DCT bool     `json:"dct,omitzero"`
	IDs []string `json:"ids,omitempty"`
}

// A SelectTenantRequest changes the current tenant.
type SelectTenantRequest struct {
	Tenant string `json:"tenant"`
}

// CheckLoginID says which field of a request is missing or odd, for a login id.
func CheckLoginID(id string) error {
	switch {
	case strings.TrimSpace(id) == "":
		return &problem.Failure{Problem: problem.MissingField, Field: "loginId"}
	case len(id) > maxLoginIDSize || !utf8.ValidString(id) || strings.ContainsFunc(id, isControl):
		return &problem.Failure{Problem: problem.InvalidField, Field: "loginId"}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// CheckCode does so for a code.
func CheckCode(code string) error {
	switch {
	case code == "":
		return &problem.Failure{Problem: problem.MissingField, Field: "code"}
	case len(code) < minCodeLength || len(code) > maxCodeLength || strings.ContainsFunc(code, isNoDigit):
		return &problem.Failure{Problem: problem.InvalidField, Field: "code"}
	}
	return nil
}

func isNoDigit(r rune) bool { return r < '0' || r > '9' }
