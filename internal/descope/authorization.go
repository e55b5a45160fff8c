package descope

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/descopehttp/descopehttp/internal/problem"
	"github.com/descopehttp/descopehttp/internal/token"
)

// authorization joins project id, token and management key the way Descope's
// clients do: parts that are absent leave no gap.
func (c *Client) authorization(token string) string {
	parts := []string{c.projectID}
	for _, part := range []string{token, c.key()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ":")
}

// SessionBearer returns the session token in the Authorization header, or "" if
// cookies are to be looked at: there is no such header, it is of another scheme,
// or it names the project, which is what Descope's own clients send with every
// call and which is no session.
func SessionBearer(h http.Header, projectID string) (string, error) {
	value, ok, err := bearerValue(h)
	if !ok {
		return "", err
	}
	if first, _, _ := strings.Cut(value, ":"); first == projectID {
		return "", nil
	}
	if strings.Count(value, ".") != 2 {
		return "", problem.ForeignProject.Because("bearer value is neither a token nor this project")
	}
	return value, nil
}

// RefreshBearer returns the refresh token in the Authorization header, or "". In the
// flows the header is that of Descope's clients, "Bearer <projectId>[:<refreshJwt>]
// [:<key>]", or has the refresh token alone, never a session token. A management key is
// dropped; ours is added when Descope is called.
func (c *Client) RefreshBearer(h http.Header) (string, error) {
	value, ok, err := bearerValue(h)
	if !ok {
		return "", err
	}
	if c.isRefreshToken(value) {
		return value, nil
	}
	parts := strings.Split(value, ":")
	if parts[0] != c.projectID || len(parts) > 3 {
		return "", problem.ForeignProject.Because("bearer value does not name this project")
	}
	if len(parts) > 1 && strings.Count(parts[1], ".") == 2 {
		return parts[1], nil
	}
	return "", nil
}

// isRefreshToken looks at what a token says it is. What it is worth is judged later.
func (c *Client) isRefreshToken(value string) bool {
	parts := strings.Split(value, ".")
	if len(value) > token.MaxSize || len(parts) != 3 || strings.Contains(value, ":") {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		DRN string `json:"drn"`
	}
	return err == nil && json.Unmarshal(payload, &claims) == nil && c.names.Kind(claims.DRN) == token.RefreshDRN
}

// bearerValue returns what follows "Bearer " (RFC 6750, section 2.1; the scheme
// is case-insensitive, RFC 9110, section 11.1). Two Authorization headers are
// refused, because two readers could each take another one.
func bearerValue(h http.Header) (value string, ok bool, err error) {
	lines := h["Authorization"]
	switch len(lines) {
	case 0:
		return "", false, nil
	case 1:
	default:
		return "", false, problem.InvalidToken.Because("more than one Authorization header")
	}
	scheme, value := lines[0], ""
	if i := strings.IndexAny(scheme, " \t"); i >= 0 {
		scheme, value = scheme[:i], scheme[i:]
	}
	if strings.EqualFold(scheme, "DPoP") {
		// RFC 9449. To look at cookies instead would judge somebody else.
		return "", false, problem.InvalidToken.Because("DPoP is not supported")
	}
	return strings.Trim(value, " \t"), strings.EqualFold(scheme, "Bearer"), nil
}
