package descope_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/descope"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

var update = flag.Bool("update", false, "rewrite the golden file under testdata")

// A wireAnswer is what Descope answers a call.
type wireAnswer struct {
	status int
	name   string // of the body: a code, "no code", "HTML", "empty", or "as usual"
}

func (a wireAnswer) body() string {
	switch a.name {
	case "no code":
		return `{"message":"no"}`
	case "HTML":
		return "<html>"
	case "empty", "as usual":
		return ""
	}
	return `{"errorCode":"` + a.name + `"}`
}

// meaning is the heading under which the answer is listed: the code's own word for it, but
// for a success, which has none.
func (a wireAnswer) meaning() string {
	if a.status/100 != 2 {
		return descope.MeaningName(a.status, a.body())
	}
	switch a.name {
	case "as usual":
		return "Success"
	case "HTML":
		return "Success, no JSON"
	case "empty":
		return "Success, empty"
	}
	return "Success, other JSON"
}

// wireAnswers are all of them. Codes count in a 4xx only; elsewhere two stand for all.
func wireAnswers() (all []wireAnswer) {
	for _, status := range []int{200, 201, 204, 301, 400, 401, 403, 404, 409, 429, 500, 502, 503, 520} {
		names := []string{"E061005", "E112102", "no code", "HTML", "empty"}
		switch status / 100 {
		case 2:
			names = append(names, "as usual")
		case 4:
			names = append(descope.CodesOfMeanings(), names[2:]...)
		}
		for _, name := range names {
			all = append(all, wireAnswer{status, name})
		}
	}
	return all
}

var answersMiddleware = kittest.Flow{Path: "the middleware", Upstream: kittest.RefreshPath, Request: func(_ *kittest.Kit, t descopetest.Tokens) *http.Request {
	return kittest.WithCookies(kittest.Get("/"), "", t.Refresh)
}}

// answerWorld is a kit whose Descope answers as it is told, and who counts what is counted.
type answerWorld struct {
	*kittest.Kit
	flow    kittest.Flow
	answer  wireAnswer
	armed   bool
	guesses int
	mu      sync.Mutex
}

func newAnswerWorld(t *testing.T, flow kittest.Flow, answer wireAnswer) *answerWorld {
	w := &answerWorld{flow: flow, answer: answer}
	w.Kit = kittest.NewForFlows(t, new(kittest.Wiretap), func(c *descopehttp.Config) {
		c.AttemptStore = w
		inner := c.HTTPClient.Transport
		c.HTTPClient = &http.Client{Transport: kittest.RoundTripper(func(r *http.Request) (*http.Response, error) {
			// What is wrong with a token is wrong when it is refreshed as well.
			if !w.armed || r.URL.Path != flow.Upstream && (r.URL.Path != kittest.RefreshPath || answer.status/100 == 2) {
				return inner.RoundTrip(r)
			}
			if answer.name != "as usual" {
				return kittest.JSONAnswer(answer.status, answer.body()), nil
			}
			res, err := inner.RoundTrip(r)
			res.StatusCode = answer.status
			return res, err
		})}
	})
	w.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	require.NoError(t, w.Ready(t.Context()))
	return w
}

// Add implements [descopehttp.AttemptStore]. Networks that somebody signed in from, which
// are kept for longer, are no guesses.
func (w *answerWorld) Add(_ context.Context, _ string, delta int, window time.Duration) (int, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if window <= 24*time.Hour {
		w.guesses += delta
	}
	return 1, window, nil
}

// ask makes the request of the flow, and returns in words what came of it.
func (w *answerWorld) ask(network int, tokens descopetest.Tokens, armed bool) string {
	w.armed = armed
	handler := w.Handler()
	if w.flow.Path == answersMiddleware.Path {
		handler = w.RequireSession(new(kittest.Spy))
	}
	guesses, lines := w.guesses, strings.Count(w.Logs.String(), "level=ERROR")
	res := kittest.Serve(handler, kittest.From(fmt.Sprintf("198.51.100.%d", network), w.flow.Request(w.Kit, tokens)))
	w.armed = false
	words := []string{fmt.Sprint(res.StatusCode)}
	content, _ := io.ReadAll(res.Body)
	if _, code, ok := strings.Cut(string(content), `"code":"`); ok {
		code, _, _ = strings.Cut(code, `"`)
		words = append(words, code)
	}
	for name, c := range kittest.CookiesOf(res) {
		if name == kittest.SessionCookie {
			words = append(words, map[bool]string{true: "-cookies", false: "+cookies"}[c.MaxAge < 0])
		}
	}
	if w.guesses > guesses {
		words = append(words, "guess")
	}
	if strings.Count(w.Logs.String(), "level=ERROR") > lines {
		words = append(words, "log")
	}
	return strings.Join(words, " ")
}

func othersAreAnswered(t *testing.T, k *kittest.Kit) {
	require.Equal(t, http.StatusOK, signIn(k, kittest.Ada).StatusCode)
	res := kittest.Serve(k.Handler(), kittest.SignedInPost(k.Project.SignIn(kittest.Ada), kittest.RefreshPath, "{}"))
	require.Equal(t, http.StatusOK, res.StatusCode)
}

// play returns what comes of an answer: at first, again after others were answered, and
// again after nobody was.
func playAnswer(t *testing.T, flow kittest.Flow, answer wireAnswer) (outcome [3]string) {
	synctest.Test(t, func(t *testing.T) {
		defer kittest.Settle()
		w := newAnswerWorld(t, flow, answer)
		first := w.Project.SignIn(kittest.Bob)
		outcome[0] = w.ask(1, first, true)
		if answer.status/100 != 2 {
			for network := range 4 {
				w.ask(2+network, w.Project.SignIn(kittest.Bob), true)
			}
			if passed := w.ask(6, w.Project.SignIn(kittest.Bob), false); !strings.HasPrefix(passed, "200") {
				outcome[0] += " gate"
			}
		}
		kittest.Elapse(6 * time.Second)
		othersAreAnswered(t, w.Kit)
		kittest.Elapse(6 * time.Second)
		if flow.Path == kittest.LogoutAllPath && answer.status/100 != 2 {
			first = w.Project.SignIn(kittest.Bob) // the witness has ended all before
			w.ask(1, first, true)
			kittest.Elapse(12 * time.Second)
			othersAreAnswered(t, w.Kit)
			kittest.Elapse(time.Second)
		}
		outcome[1] = w.ask(1, first, true)
		require.NoError(t, w.Wait(t.Context()))
	})
	synctest.Test(t, func(t *testing.T) {
		defer kittest.Settle()
		w := newAnswerWorld(t, flow, answer)
		tokens := w.Project.SignIn(kittest.Bob)
		w.ask(1, tokens, true)
		kittest.Elapse(70 * time.Second)
		outcome[2] = w.ask(1, tokens, true)
		require.NoError(t, w.Wait(t.Context()))
	})
	return outcome
}

const answersHeading = `What comes of an answer of Descope, by what it means: meaning.go has the one table of that, which
names the headings here. Below each are the answers that mean it, and then, for each flow, what
the client gets

	at first | from then on, once others were answered (12 s) | and where nobody was (70 s)

where "=" is the same as at first. -cookies: they are deleted; +cookies: they are set; guess: it
counts against the limits on guessing or signing up; log: an Error line, of one a minute at most;
gate: after five of them in a row others who ask the same have to wait. A line with answers before
it is about these only.
`

// Whatever Descope answers to whatever call: who is told what, and what it costs them.
//
// Rule: renewing: against a changed management key, a proxy's page or an unknown error code
// that signs everybody out: only codes known to end a session do, and others of Descope's that
// do not speak of the request once another call is answered.
// Rule: renewing: only known codes end a session, and other codes of Descope that do not speak
// of the request once another call is answered; what each answer comes to stands in
// internal/descope/testdata/answers.txt; the rest is logged once a minute.
func TestWhatComesOfAnAnswer(t *testing.T) {
	answers := wireAnswers()
	flows := append(slices.Clone(kittest.Flows), answersMiddleware)
	outcomes := make([][][3]string, len(flows))
	t.Run("all", func(t *testing.T) {
		for i, flow := range flows {
			outcomes[i] = make([][3]string, len(answers))
			t.Run(flow.Path, func(t *testing.T) {
				t.Parallel()
				for j, answer := range answers {
					outcomes[i][j] = playAnswer(t, flow, answer)
				}
			})
		}
	})
	got := answersHeading
	for _, meaning := range descope.MeaningNames("Success", "Success, other JSON", "Success, no JSON", "Success, empty") {
		got += writeMeaning(meaning, answers, flows, outcomes)
	}
	golden := filepath.Join("testdata", "answers.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "run with -update, and read what has changed")
}

// writeMeaning writes what one meaning comes to, flows that fare alike in one line.
func writeMeaning(meaning string, answers []wireAnswer, flows []kittest.Flow, outcomes [][][3]string) string {
	var of []int // answers
	for j, a := range answers {
		if a.meaning() == meaning {
			of = append(of, j)
		}
	}
	var order []string
	lines := make(map[string][]string) // flows, by answers and outcome
	for i, flow := range flows {
		byOutcome := make(map[string][]int)
		for _, j := range of {
			o := outcomes[i][j]
			text := o[0]
			for _, later := range o[1:] {
				if later == strings.TrimSuffix(strings.TrimSuffix(o[0], " gate"), " log") {
					later = "="
				}
				text += " | " + later
			}
			text = strings.TrimSuffix(text, " | = | =")
			byOutcome[text] = append(byOutcome[text], j)
		}
		for _, text := range slices.Sorted(maps.Keys(byOutcome)) {
			key := text
			if len(byOutcome) > 1 {
				key = listAnswers(answers, byOutcome[text]) + ": " + text
			}
			if lines[key] == nil {
				order = append(order, key)
			}
			lines[key] = append(lines[key], strings.TrimPrefix(flow.Path, "/v1/auth/"))
		}
	}
	out := "\n" + meaning + ": " + listAnswers(answers, of) + "\n"
	for _, key := range order {
		out += "\t" + strings.Join(lines[key], ", ") + "\n\t\t" + key + "\n"
	}
	return out
}

// listAnswers names answers, those with one body together.
func listAnswers(answers []wireAnswer, of []int) string {
	var order []string
	statuses := make(map[string]string)
	for _, j := range of {
		a := answers[j]
		if statuses[a.name] == "" {
			order = append(order, a.name)
		}
		statuses[a.name] += fmt.Sprint(a.status, " ")
	}
	var parts []string
	for _, name := range order {
		if n := len(parts); n > 0 && strings.HasPrefix(parts[n-1], statuses[name]) {
			parts[n-1] += ", " + name
			continue
		}
		parts = append(parts, statuses[name]+name)
	}
	return strings.Join(parts, "; ")
}
