package notice

import (
	"log/slog"
	"slices"
)

// A Line is one kind of line in the log.
type Line struct {
	Event string // its name, for who counts or alerts
	Level slog.Level
	text  string
}

var lines []*Line

// Lines returns all of them, in the order of the table.
func Lines() []*Line { return slices.Clone(lines) }

func line(event string, level slog.Level, text string) *Line {
	l := &Line{event, level, text}
	lines = append(lines, l)
	return l
}

// All that an operator is told. Debug is for each request, Info for what is over, Warn
// for what passes or may be a client's, and Error for what somebody has to mend.
var (
	Refused = line("refused", slog.LevelDebug, "request refused")

	GateClosed = line("gate_closed", slog.LevelWarn, "Descope cannot be reached; calls of this class fail at once until it can")
	GatePaused = line("gate_paused", slog.LevelWarn, "Descope asks for fewer calls; those of this class wait")
	GateOpen   = line("gate_open", slog.LevelInfo, "Descope answers again")

	KeysStale    = line("keys_stale", slog.LevelWarn, "key set could not be fetched; the keys that are held serve for a day")
	KeysMissing  = line("keys_missing", slog.LevelError, "key set could not be fetched, and no session can be judged without")
	KeysUnusable = line("keys_unusable", slog.LevelError, "what came as the key set has no usable key; if one was held before, it stays in use")
	KeysFresh    = line("keys_fresh", slog.LevelInfo, "key set was fetched again")
	KeysSkipped  = line("keys_skipped", slog.LevelWarn, "keys of the key set cannot be used and are skipped")

	RefreshStoreAway = line("refresh_store_away", slog.LevelError, "the refresh store is not available; this replica goes on with its own memory")
	RefreshStoreBack = line("refresh_store_back", slog.LevelInfo, "the refresh store answers again")
	RefreshStoreOdd  = line("refresh_store_odd", slog.LevelError, "what is in the refresh store cannot be read, and counts as not there; does something else write to it?")
	AttemptStoreAway = line("attempt_store_away", slog.LevelError, "the attempt store is not available; this replica counts by itself")
	AttemptStoreBack = line("attempt_store_back", slog.LevelInfo, "the attempt store answers again")

	UnknownProject = line("unknown_project", slog.LevelError, "Descope knows no such project; look at Config.ProjectID and Config.BaseURL")
	CallerRefused  = line("caller_refused", slog.LevelError, "Descope refuses who calls it; look at Config.AuthManagementKey and Config.ProjectID")
	UnknownCode    = line("unknown_code", slog.LevelError, "Descope refuses sign-ins for a reason that is not known to be the user's; is TOTP enabled in Descope's console? Config.WrongCode names codes that are the user's")
	RefreshRefused = line("refresh_refused", slog.LevelError, "Descope refuses refreshes for a reason that is not about the session; cookies are kept")
	RefreshDoubted = line("refresh_doubted", slog.LevelError, "Descope refuses a refresh token for a reason that may be the sign-in's, or that of Config.AuthManagementKey and Config.ProjectID; cookies are kept until another call shows which")
	OddToken       = line("odd_token", slog.LevelError, "a token in Descope's answer does not pass the checks; is the clock right, and are Audience and the JWT template in line?")
	OtherUser      = line("other_user", slog.LevelError, "Descope answered a refresh token with the session of another user; refused")

	CrossOrigin      = line("cross_origin", slog.LevelWarn, "requests of another origin are refused; one that may send them belongs in Config.TrustedOrigins")
	UnknownAddress   = line("unknown_address", slog.LevelWarn, "the address of a client cannot be told, and all such clients share one limit on guessing; see Config.ClientIP and ClientIPFromHeader")
	CookieTooLarge   = line("cookie_too_large", slog.LevelError, "a token is too large for a cookie, and the session will not last. Leave claims out of the project's JWT template, or use another delivery")
	CookieDropped    = line("cookie_dropped", slog.LevelWarn, "Secure cookies were set over plain http, and the browser drops them. Use https, or in development Cookies.InsecureHTTP")
	LoginPageGuarded = line("login_page_guarded", slog.LevelError, "the page of Config.LoginURL is behind the middleware, and nobody can sign in there. Take it out")
	NoAnswer         = line("no_answer", slog.LevelError, "Config.ErrorHandler has written no answer")
	InsecureBaseURL  = line("insecure_base_url", slog.LevelWarn, "Config.InsecureBaseURL is for development only: tokens may travel in the clear")
	Panicked         = line("panicked", slog.LevelError, "something panicked, and nothing was stopped by it but what it was called for")
)
