package token

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// What is read of a payload only when somebody asks. A claim of a wrong type counts as
// absent, so each is decoded raw and judged by who asked: an odd JWT template closes a
// guard, and signs nobody out.

// Issuer returns the "iss" claim.
func (v *Verified) Issuer() string {
	var c struct {
		ISS jsontext.Value `json:"iss"`
	}
	v.decode(&c)
	return textOf(c.ISS)
}

// RefreshExpiry returns the "rexp" claim, or the zero time.
func (v *Verified) RefreshExpiry() time.Time {
	var c struct {
		REXP jsontext.Value `json:"rexp"`
	}
	v.decode(&c)
	expiry, _ := time.Parse(time.RFC3339, textOf(c.REXP))
	return expiry
}

// AuthMethods returns the "amr" claim (RFC 8176).
func (v *Verified) AuthMethods() []string {
	var c struct {
		AMR jsontext.Value `json:"amr"`
	}
	v.decode(&c)
	return textsOf(c.AMR)
}

// StepUp reports whether the "su" claim is true.
func (v *Verified) StepUp() bool {
	var c struct {
		SU jsontext.Value `json:"su"`
	}
	v.decode(&c)
	return c.SU.Kind() == 't'
}

// Tenant returns the tenant that the user is working in, the "dct" claim, or "".
func (v *Verified) Tenant() string { return textOf(v.authorization().Tenant) }

// Authorization returns roles and permissions in a tenant, or with "" of the project.
// Where a token names a current tenant and has no tenants claim, its top-level lists
// are that tenant's; read as the project's, they would make the admin of one
// tenant an admin of all.
func (v *Verified) Authorization(tenant string) (roles, permissions []string) {
	c := v.authorization()
	current := textOf(c.Tenant)
	// A current tenant of a type that no tenant has is one all the same.
	hasCurrent := current != "" || c.Tenant != nil && c.Tenant.Kind() != '"' && c.Tenant.Kind() != 'n'
	topLevelIsTenants := hasCurrent && c.Tenants.Kind() != '{'
	if tenant == "" && topLevelIsTenants {
		return nil, nil
	}
	if tenant == "" || topLevelIsTenants && tenant == current {
		return textsOf(c.Roles), textsOf(c.Permissions)
	}
	var tenants map[string]jsontext.Value
	if c.Tenants.Kind() == '{' {
		_ = json.Unmarshal(c.Tenants, &tenants)
	}
	var in authorization
	if tenants[tenant].Kind() == '{' {
		_ = json.Unmarshal(tenants[tenant], &in)
	}
	return textsOf(in.Roles), textsOf(in.Permissions)
}

// authorization is where Descope puts roles and permissions: at the top level, and
// again for each tenant.
type authorization struct {
	Tenant      jsontext.Value `json:"dct"`
	Roles       jsontext.Value `json:"roles"`
	Permissions jsontext.Value `json:"permissions"`
	Tenants     jsontext.Value `json:"tenants"`
}

func (v *Verified) authorization() (c authorization) {
	v.decode(&c)
	return c
}

func (v *Verified) decode(into any) { _ = json.Unmarshal(v.Payload, into) }

// textOf returns the text of a JSON string, or "" for anything else.
func textOf(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	text, _ := unquote(v) // it has been decoded before, so it is valid
	return string(text)
}

// textsOf returns the strings of a JSON array, or nil if it is not an array
// of strings and nothing else.
func textsOf(v jsontext.Value) []string {
	var list []string
	if v.Kind() != '[' || json.Unmarshal(v, &list) != nil {
		return nil
	}
	return list
}
