package kittest

// Paths of Descope, which are those of the flows too.
const (
	SignUpPath     = "/v1/auth/totp/signup"
	VerifyPath     = "/v1/auth/totp/verify"
	UpdatePath     = "/v1/auth/totp/update"
	RefreshPath    = "/v1/auth/refresh"
	TryRefreshPath = "/v1/auth/try-refresh"
	LogoutPath     = "/v1/auth/logout"
	LogoutAllPath  = "/v1/auth/logoutall"
	MePath         = "/v1/auth/me"
	HistoryPath    = "/v1/auth/me/history"
	TenantsPath    = "/v1/auth/me/tenants"
	SelectPath     = "/v1/auth/tenant/select"
	ValidatePath   = "/v1/auth/validate" // no flow

	KeysPath = "/v2/keys" // no flow; the project's id follows
)
