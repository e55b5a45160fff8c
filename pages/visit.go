package pages

import (
	"bytes"
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp"
)

// A visit is one request for a page, and what the page will say.
type visit struct {
	p    *Pages
	w    http.ResponseWriter
	r    *http.Request
	view View
}

// view returns what all pages have in common, as on the pages' own addresses.
func (p *Pages) view() View {
	const own = "./"
	return View{
		Method:    http.MethodGet,
		Name:      p.options.Name,
		Logo:      cmp.Or(p.options.Logo, own+"icon.svg"),
		Home:      p.options.Home,
		LostPhone: p.options.LostPhone,
		Base:      own,
		Version:   p.assets.version,
	}
}

func (p *Pages) visit(w http.ResponseWriter, r *http.Request) *visit {
	v := &visit{p: p, w: w, r: r, view: p.view()}
	if r.Method != http.MethodHead {
		v.view.Method = r.Method
	}
	// ReturnTo says "/" of what is no way back, too.
	if back := descopehttp.ReturnTo(r); back != "/" || r.URL.Query().Get("return_to") == "/" {
		v.view.ReturnTo = back
	}
	return v
}

// foreign makes the links of a page good for any address.
func (v *visit) foreign() {
	v.view.Base = v.p.pathPrefix + v.p.options.Prefix
	v.view.Logo = cmp.Or(v.p.options.Logo, v.view.Base+"icon.svg")
}

// loaded has a page know who is signed in, without asking for it.
func loaded(get func(*visit)) func(*visit) {
	return func(v *visit) {
		v.p.auth.LoadSession(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			v.r = r
			v.take(r)
			get(v)
		})).ServeHTTP(v.w, v.r)
	}
}

// take reads what a middleware of the kit has found.
func (v *visit) take(r *http.Request) {
	v.view.Session, _ = descopehttp.SessionFromContext(r.Context())
	v.view.Away = errors.Is(descopehttp.SessionError(r.Context()), descopehttp.ErrUnavailable)
}

// authenticate asks for a session. Without one it answers, and returns false.
func (v *visit) authenticate() bool {
	s, err := v.p.auth.Authenticate(v.w, v.r)
	if err != nil {
		v.noSession(err)
		return false
	}
	v.view.Session = s
	return true
}

// noSession answers where a page needs a session: nobody is sent to sign in who may well be
// signed in.
func (v *visit) noSession(err error) {
	p := problemOf(err)
	switch {
	case errors.Is(err, descopehttp.ErrCrossOrigin):
		v.refused(p)
	case errors.Is(err, descopehttp.ErrUnavailable):
		v.away(p)
	default:
		q := url.Values{}
		if back := v.asked(); v.r.Method == http.MethodGet && back != v.p.home() {
			q.Set("return_to", back)
		}
		if errors.Is(err, descopehttp.ErrSessionEnded) || errors.Is(err, descopehttp.ErrSessionExpired) {
			q.Set("notice", "ended")
		}
		v.to("signin", q)
	}
}

// home is the address of the account as browsers see it, if the prefix is right.
func (p *Pages) home() string { return p.pathPrefix + p.options.Prefix }

// asked returns the address that the browser has asked for, whatever was cut off since.
func (v *visit) asked() string {
	u, err := url.ParseRequestURI(v.r.RequestURI)
	if err != nil {
		u = v.r.URL // a request that was made by hand
	}
	return v.p.pathPrefix + u.EscapedPath()
}

// to sends the browser to another of these pages. The address is relative, because what was
// cut off this one's path is not known here.
func (v *visit) to(page string, q url.Values) {
	address := "./" + page
	if len(q) > 0 {
		address += "?" + q.Encode()
	}
	v.redirect(address)
}

func (v *visit) redirect(address string) {
	h := v.w.Header()
	h.Set("Location", address) // http.Redirect would make it absolute, of a path that may be cut
	h.Set("Cache-Control", "no-store")
	v.w.WriteHeader(http.StatusSeeOther)
}

// goOn sends a browser that has signed in to where it wanted to go.
func (v *visit) goOn(notice string) {
	switch {
	case v.view.ReturnTo != "":
		v.redirect(v.view.ReturnTo)
	case notice != "":
		v.to("", url.Values{"notice": {notice}})
	default:
		v.to("", nil)
	}
}

// notice says what the query names, if it is among what the page may say.
func (v *visit) notice(names ...string) {
	for _, name := range names {
		if v.r.URL.Query().Get("notice") == name {
			v.view.Notice = v.p.texts["notice."+name]
		}
	}
}

// show answers with a page. It is written to memory first: a mistake in a template is then
// a 500, not half a page. Nobody may keep it, because each says who is signed in.
func (v *visit) show(status int, page string) {
	h := v.w.Header()
	h.Set("Cache-Control", "no-store")
	var body bytes.Buffer
	if err := v.p.execute(&body, page, &v.view); err != nil {
		// A template of the application's may have put anything into the error.
		v.p.log.LogAttrs(v.r.Context(), slog.LevelError, "descopehttp: a page could not be made of its template", slog.String("page", page))
		http.Error(v.w, v.p.texts["error.internal"], http.StatusInternalServerError)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer") // RFC 9110, section 15.5.2; browsers ask nothing for it
	}
	v.w.WriteHeader(status)
	_, _ = body.WriteTo(v.w) // an error means that the client has gone
}

// problemOf returns what a client may be told of an error.
func problemOf(err error) *descopehttp.Problem {
	var p *descopehttp.Problem
	if errors.As(err, &p) {
		return p
	}
	return &descopehttp.Problem{Status: http.StatusInternalServerError, Code: "internal"}
}

// fail answers with the page that has the form, and what went wrong with it. Where a page says
// something of its own about a problem, its text begins with the page's name.
func (v *visit) fail(page string, p *descopehttp.Problem) {
	v.view.Problem, v.view.Focus = p, focusOf(p)
	v.view.Error = v.p.texts["error.internal"]
	for _, name := range []string{page + "." + p.Code, p.Field + "." + p.Code, p.Code} {
		if text, ok := v.p.texts["error."+name]; ok {
			v.view.Error = text
			break
		}
	}
	if p.RetryAfter > 0 {
		v.view.Wait = seconds(p.RetryAfter)
		v.w.Header().Set("Retry-After", strconv.Itoa(int(v.view.Wait/time.Second)))
	}
	v.show(p.Status, page)
}

// focusOf returns the field that a problem is about.
func focusOf(p *descopehttp.Problem) string {
	switch p.Code {
	case "invalid_code":
		return "code"
	case "user_exists":
		return "loginId"
	}
	switch p.Field {
	case "loginId", "code", "name":
		return p.Field
	}
	return "error"
}

// instead answers problems that are not about the form, and reports whether this was one.
func (v *visit) instead(err error) bool {
	p := problemOf(err)
	switch {
	case errors.Is(err, descopehttp.ErrCrossOrigin):
		// Not the page again: what it would show is what the other site has sent.
		v.refused(p)
	case errors.Is(err, descopehttp.ErrStepUpRequired):
		v.to("signin", url.Values{"acr_values": {acrOf(p)}, "return_to": {v.asked()}})
	case isOver(err):
		q := url.Values{"notice": {"ended"}}
		if v.view.ReturnTo != "" {
			q.Set("return_to", v.view.ReturnTo)
		}
		v.to("signin", q)
	default:
		return false
	}
	return true
}

// isOver reports whether an error of a flow says that there is no session any more.
func isOver(err error) bool {
	for _, over := range []error{descopehttp.ErrNoSession, descopehttp.ErrInvalidToken, descopehttp.ErrSessionExpired, descopehttp.ErrSessionEnded} {
		if errors.Is(err, over) {
			return problemOf(err).Code != "refresh_refused" // which may be the configuration's
		}
	}
	return false
}

func acrOf(p *descopehttp.Problem) string {
	if p.Code == "mfa_required" {
		return "mfa"
	}
	return "stepup"
}

const maxForm = 128 << 10 // bytes; a QR code is most of it

// parse reads what a form has sent. If that is nothing it answers with the page, and
// returns false. A name that is there twice could be one user to us and another to whoever
// looks again.
func (v *visit) parse(page string) bool {
	mediaType, _, _ := strings.Cut(v.r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(mediaType), "application/x-www-form-urlencoded") {
		v.fail(page, &descopehttp.Problem{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type"})
		return false
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	err := v.r.ParseForm()
	for _, values := range v.r.PostForm {
		if len(values) > 1 && err == nil {
			err = errors.New("a field twice")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		v.fail(page, &descopehttp.Problem{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large"})
	case err != nil:
		v.fail(page, &descopehttp.Problem{Status: http.StatusBadRequest, Code: "malformed_body"})
	}
	return err == nil
}
