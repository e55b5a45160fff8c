package renew

import "github.com/descopehttp/descopehttp/internal/token"

// Seal seals what a store might hold under t.
func Seal(projectID string, t *token.Token, plain []byte) []byte {
	s := sealer{projectID}
	return s.sealBytes(t.Raw, plain)
}
