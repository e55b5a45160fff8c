package pages

import (
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"time"

	"github.com/descopehttp/descopehttp"
)

// A View is what templates see. What has no meaning on a page is zero there. It has login ids
// and keys in it, and does not print, for no verb, in no log line and in no JSON.
type View struct {
	unprinted
	// Page names the template: "signin", "signup", "key", "confirm", "factor",
	// "authenticator", "account", "signedout", "refused", "away" or "notfound".
	Page string
	// Title is the text of the page's title, without the application's name.
	Title string
	// Method is that of the request: "POST" is the answer to a form. HEAD counts as "GET".
	Method string

	// Name, Logo, Home and LostPhone are those of Options, with their defaults.
	Name, Logo, Home, LostPhone string
	// Base is what links to the pages begin with: "{{.Base}}signin". It is relative on the
	// pages' own addresses.
	Base string
	// Version changes with app.js and style.css, for their addresses.
	Version string

	// Session is nil without one, or while it cannot be told; Away is true then.
	Session *descopehttp.Session
	Away    bool
	// User is on the account page what Descope knows of the user, nil if it cannot be told.
	User *descopehttp.User
	// LoginID is whom the page is about: the user's first, or what was typed into a form.
	LoginID string
	// FullName is what was typed for a name at a sign-up.
	FullName string
	// ReturnTo is the path to go on with, "" for the account.
	ReturnTo string

	// Notice is something good, or on the page "refused" the reason.
	Notice string
	// Error is what went wrong, "" if nothing did, Notes what else there is to know of it, and
	// Problem what it was. Focus is the field that has the focus: "loginId", "name", "code", or
	// "error" for the text itself.
	Error   string
	Notes   []string
	Problem *descopehttp.Problem
	Focus   string
	// Wait is how long to wait before it can be tried again, in whole seconds.
	Wait time.Duration
	// NextCode is how long until the app shows another code, in whole seconds, where the present
	// one may have been used: each works once.
	NextCode time.Duration

	// Key is the new key on the page "key"; nil if it cannot be shown again.
	Key *Key
	// Capitals: LoginID has capital letters, which may count.
	Capitals bool

	// SignIns are the latest on the account page, the last one first.
	SignIns []Login
}

// A Key is a new key for an authenticator app. It is a secret: whoever has it can sign in
// as the user. It is shown once, but for forms that carry it, because Descope shows it once.
// Like a View it does not print.
type Key struct {
	unprinted
	URL   template.URL // otpauth://totp/…, or "" if Descope's was another
	Image template.URL // data:image/png;base64,… or ""
	PNG   string       // the QR code in base64
	Text  string       // what a user can type, in groups of four
}

// A Login is a sign-in of the past.
type Login struct {
	Time    time.Time
	Place   string // city and country, as far as they are known
	Address string // IP address, or ""
}

// unprinted is part of what has secrets in it.
type unprinted struct{}

const notPrinted = "[not printed]"

// Format prints a fixed text, for every verb.
func (unprinted) Format(f fmt.State, _ rune) { io.WriteString(f, notPrinted) }

// LogValue gives a log line that text, too, however its handler encodes.
func (unprinted) LogValue() slog.Value { return slog.StringValue(notPrinted) }

// MarshalJSON is for a value that is part of another, and for scripts in templates.
func (unprinted) MarshalJSON() ([]byte, error) { return []byte(`"` + notPrinted + `"`), nil }
