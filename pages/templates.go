package pages

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
	"time"

	"github.com/descopehttp/descopehttp"
)

// titles are the pages, and the text that is the title of each.
var titles = map[string]string{
	"signin":        "signin.title",
	"signup":        "signup.title",
	"key":           "key.title",
	"confirm":       "confirm.title",
	"factor":        "factor.title",
	"authenticator": "authenticator.title",
	"account":       "account.title",
	"signedout":     "signedout.title",
	"refused":       "refused.title",
	"away":          "away.title",
	"notfound":      "notfound.title",
}

const (
	layoutFile = "layout.html"
	partsFile  = "parts.html"
	mainBlock  = "main"
)

// parse makes one template of each page with the layout around it, and tries them.
func (p *Pages) parse(own fs.FS) error {
	given, err := readTemplates(own)
	if err != nil {
		return err
	}
	funcs := template.FuncMap{"text": p.text, "fill": p.fill}
	shared := template.New("").Funcs(funcs)
	for _, name := range append([]string{partsFile, layoutFile}, given.extras...) {
		if _, err := shared.New(name).Parse(given.content(name)); err != nil {
			return fmt.Errorf("pages: Options.Templates: %w", err)
		}
	}
	if shared.Lookup(mainBlock) != nil {
		return errors.New(`pages: Options.Templates: "main" is defined in a file that has not the name of a page`)
	}
	p.templates = make(map[string]*template.Template)
	for page := range titles {
		t := template.Must(shared.Clone()) // which was not executed yet
		if _, err := t.New(page + ".html").Parse(given.content(page + ".html")); err != nil {
			return fmt.Errorf("pages: Options.Templates: %w", err)
		}
		p.templates[page] = t
	}
	return p.try()
}

// A templateSet is what an application gives of its own.
type templateSet struct {
	own    map[string]string
	extras []string // files that replace none
}

func (s *templateSet) content(name string) string {
	if content, ok := s.own[name]; ok {
		return content
	}
	content, err := files.ReadFile("templates/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(content)
}

func readTemplates(own fs.FS) (*templateSet, error) {
	s := &templateSet{own: make(map[string]string)}
	if own == nil {
		return s, nil
	}
	names, err := fs.Glob(own, "*.html")
	if err == nil && len(names) == 0 {
		err = errors.New("no file ends in .html at its top level")
	}
	if err != nil {
		return nil, fmt.Errorf("pages: Options.Templates: %w", err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(own, name)
		if err != nil {
			return nil, fmt.Errorf("pages: Options.Templates: %w", err)
		}
		s.own[name] = string(content)
		if page, _ := strings.CutSuffix(name, ".html"); titles[page] != "" || name == layoutFile || name == partsFile {
			continue
		}
		s.extras = append(s.extras, name)
		if err := onlyDefines(name, string(content)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// onlyDefines refuses a file that would never be shown: its name is most likely that of a
// page, misspelt.
func onlyDefines(name, content string) error {
	trees := make(map[string]*parse.Tree)
	tree := parse.New(name)
	tree.Mode = parse.SkipFuncCheck
	tree, err := tree.Parse(content, "", "", trees)
	if err != nil {
		return fmt.Errorf("pages: Options.Templates: %w", err)
	}
	if tree.Root != nil && !parse.IsEmptyTree(tree.Root) {
		return fmt.Errorf("pages: Options.Templates: %s has not the name of a page, and more than definitions in it", name)
	}
	return nil
}

// try executes each template with samples of what it may see.
func (p *Pages) try() error {
	session, err := descopehttp.NewSession(map[string]any{
		"sub": "U2sample", "iat": 1, "exp": 2, "rexp": "2030-01-01T00:00:00Z", "dct": "T1", "su": true, "amr": []string{"totp"},
		"tenants": map[string]any{"T1": map[string]any{"roles": []string{"editor"}}},
	})
	if err != nil {
		return err
	}
	bare := p.view()
	full := bare
	full.Session, full.User = session, &descopehttp.User{ID: "U2sample", LoginIDs: []string{"ada@example.com"}, Name: "Ada", Email: "ada@example.com", Phone: "+1"}
	full.LoginID, full.FullName, full.ReturnTo, full.Notice, full.Capitals = "ada@example.com", "Ada", "/orders", "A notice", true
	full.Key = &Key{URL: "otpauth://totp/a?secret=b", Image: "data:image/png;base64,AA==", PNG: "AA==", Text: "ABCD"}
	full.SignIns = []Login{{time.Unix(1, 0), "Berlin, DE", "192.0.2.1"}, {}}
	full.NextCode, full.LostPhone = time.Second, "/lost"
	failed := full
	failed.Notes = []string{"A note"}
	failed.Method, failed.Error, failed.Problem, failed.Focus, failed.Wait = "POST", "An error", &descopehttp.Problem{Status: 429, Code: "too_many_requests"}, "error", time.Minute
	unsigned := failed
	unsigned.Session, unsigned.User, unsigned.Away, unsigned.Focus, unsigned.Key = nil, nil, true, "code", &Key{Text: "ABCD"}
	for page := range titles {
		for _, v := range []View{bare, full, failed, unsigned} {
			if err := p.execute(io.Discard, page, &v); err != nil {
				return fmt.Errorf("pages: Options.Templates: on the page %q: %w", page, err)
			}
		}
	}
	return nil
}

func (p *Pages) execute(w io.Writer, page string, v *View) error {
	v.Page = page
	if v.Title == "" {
		v.Title = p.texts[titles[page]]
	}
	return p.templates[page].ExecuteTemplate(w, layoutFile, v)
}

// replaceTexts puts the application's own in the place of some.
func (p *Pages) replaceTexts(own map[string]string) error {
	p.texts = make(map[string]string, len(texts))
	for name, text := range texts {
		p.texts[name] = text
	}
	var unknown []string
	for name, text := range own {
		if _, ok := texts[name]; !ok {
			unknown = append(unknown, strconv.Quote(name))
		}
		p.texts[name] = text
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("pages: Options.Texts: there is no text of the name %s", strings.Join(unknown, ", "))
}

// text is the function of that name in templates.
func (p *Pages) text(name string) (string, error) {
	text, ok := p.texts[name]
	if !ok {
		return "", fmt.Errorf("there is no text of the name %q", name)
	}
	return text, nil
}

// fill is the function of that name in templates: a text with a duration in it.
func (p *Pages) fill(name string, d time.Duration) (string, error) {
	text, err := p.text(name)
	seconds := int(seconds(d) / time.Second)
	words := p.texts["time.seconds"]
	switch {
	case seconds == 1:
		words = p.texts["time.second"]
	case seconds >= 120:
		words, seconds = p.texts["time.minutes"], (seconds+59)/60
	}
	words = strings.ReplaceAll(words, "{n}", strconv.Itoa(seconds))
	return strings.ReplaceAll(text, "{time}", words), err
}

// seconds rounds up to whole ones: who came back a moment early would only have to wait again.
func seconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
