package token

import "github.com/descopehttp/descopehttp/internal/problem"

// What makes a token invalid, or one that has expired. The texts are for logs and never
// quote the token: whoever sends one chooses what is in it. They are values, so that
// refusing a hostile token allocates nothing, and so that a caller can tell by identity
// which rule spoke. ErrExpired is the only one that is no fault of the token: it leads to
// a refresh, where all others lead to a refusal.
var (
	ErrSize      = problem.InvalidToken.Because("token is larger than 16 KiB")                                      // judged before all else, in no time
	errParts     = problem.InvalidToken.Because("token is not three parts of base64url")                            // RFC 7515, section 7.1
	errHeader    = problem.InvalidToken.Because("header is not one JSON object with unique names")                  // RFC 7515, section 4
	errAlg       = problem.InvalidToken.Because("alg is not one of RS256, ES256 and ES384")                         // RFC 8725, section 3.1
	errKid       = problem.InvalidToken.Because("kid is not a non-empty string")                                    // RFC 7515, section 4.1.4
	errCrit      = problem.InvalidToken.Because("header has crit")                                                  // RFC 7515, section 4.1.11
	errClaims    = problem.InvalidToken.Because("claims are not one JSON object with unique names")                 // RFC 7519, section 4
	errName      = problem.InvalidToken.Because("a name differs from a registered one only by case")                // RFC 7519, section 10.1.1: names are case-sensitive
	errType      = problem.InvalidToken.Because("a claim has the wrong type")                                       // RFC 7519, section 4.1
	errExpiry    = problem.InvalidToken.Because("exp is missing or out of range")                                   // RFC 7519, section 4.1.4; here it is required
	errIssuer    = problem.InvalidToken.Because("iss is not this project")                                          // RFC 8725, section 3.8
	errSubject   = problem.InvalidToken.Because("sub is missing or empty")                                          // RFC 7519, section 4.1.2; here it is required
	errKind      = problem.InvalidToken.Because("drn is another kind of token's")                                   // RFC 8725, section 3.12
	errAudience  = problem.InvalidToken.Because("aud does not hold the audience")                                   // RFC 8725, section 3.9
	errBound     = problem.InvalidToken.Because("token is bound to a key (cnf), which a plain bearer cannot prove") // RFC 7800, section 3.1
	errNotYet    = problem.InvalidToken.Because("token is not valid yet")                                           // RFC 7519, section 4.1.5
	ErrSignature = problem.InvalidToken.Because("signature does not verify")                                        // RFC 7515, section 5.2
	ErrKeyAlg    = problem.InvalidToken.Because("alg is not the key's")                                             // RFC 7517, section 4.4
	ErrExpired   = problem.SessionExpired.Because("token has expired")                                              // RFC 7519, section 4.1.4
)
