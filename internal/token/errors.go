package token

import "github.com/descopehttp/descopehttp/internal/problem"

// What makes a token invalid, or one that has expired. The texts are for logs and never quote the token.
// They are values, so that refusing a hostile token allocates nothing.
var (
	ErrSize      = problem.InvalidToken.Because("token is larger than 16 KiB")
	errParts     = problem.InvalidToken.Because("token is not three parts of base64url")
	errHeader    = problem.InvalidToken.Because("header is not one JSON object with unique names")
	errAlg       = problem.InvalidToken.Because("alg is not one of RS256, ES256 and ES384")
	errKid       = problem.InvalidToken.Because("kid is not a non-empty string")
	errCrit      = problem.InvalidToken.Because("header has crit")
	errClaims    = problem.InvalidToken.Because("claims are not one JSON object with unique names")
	errName      = problem.InvalidToken.Because("a name differs from a registered one only by case")
	errType      = problem.InvalidToken.Because("a claim has the wrong type")
	errExpiry    = problem.InvalidToken.Because("exp is missing or out of range")
	errIssuer    = problem.InvalidToken.Because("iss is not this project")
	errSubject   = problem.InvalidToken.Because("sub is missing or empty")
	errKind      = problem.InvalidToken.Because("drn is another kind of token's")
	errAudience  = problem.InvalidToken.Because("aud does not hold the audience")
	errBound     = problem.InvalidToken.Because("token is bound to a key (cnf), which a plain bearer cannot prove")
	errNotYet    = problem.InvalidToken.Because("token is not valid yet")
	ErrSignature = problem.InvalidToken.Because("signature does not verify")
	ErrKeyAlg    = problem.InvalidToken.Because("alg is not the key's")
	ErrExpired   = problem.SessionExpired.Because("token has expired")
)
