package descopehttp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

// openAPI is what is read of docs/openapi.json.
type openAPI struct {
	Paths      map[string]map[string]*openOperation
	Components struct {
		Schemas   map[string]*openSchema
		Responses map[string]*openResponse
	}
}

type openOperation struct {
	RequestBody *struct{ Content map[string]openContent }
	Responses   map[string]*openResponse
}

type openResponse struct {
	Ref     string `json:"$ref"`
	Content map[string]openContent
}

type openContent struct{ Schema *openSchema }

type openSchema struct {
	Ref        string `json:"$ref"`
	Type       string
	Enum       []any
	Required   []string
	Properties map[string]*openSchema
	Items      *openSchema
}

func readOpenAPI(t *testing.T) *openAPI {
	t.Helper()
	content, err := os.ReadFile("docs/openapi.json")
	require.NoError(t, err)
	var doc openAPI
	require.NoError(t, json.Unmarshal(content, &doc))
	return &doc
}

// operation returns what the document says of a flow.
func (d *openAPI) operation(t *testing.T, path string) *openOperation {
	t.Helper()
	for _, op := range d.Paths[path] {
		return op
	}
	require.Fail(t, "not in docs/openapi.json", path)
	return nil
}

func (d *openAPI) schema(s *openSchema) *openSchema {
	if name, found := strings.CutPrefix(s.Ref, "#/components/schemas/"); found {
		return d.Components.Schemas[name]
	}
	return s
}

// requireFits checks that a value is of a schema: its type, what it must have, and the
// types of what the schema names.
func (d *openAPI) requireFits(t *testing.T, s *openSchema, v any, where string) {
	t.Helper()
	s = d.schema(s)
	require.NotNil(t, s, "no schema of %s", where)
	switch s.Type {
	case "object":
		members, ok := v.(map[string]any)
		require.True(t, ok, "%s is no object", where)
		for _, name := range s.Required {
			require.Contains(t, members, name, where)
		}
		for name, property := range s.Properties {
			if member, there := members[name]; there {
				d.requireFits(t, property, member, where+"."+name)
			}
		}
	case "array":
		items, ok := v.([]any)
		require.True(t, ok, "%s is no array", where)
		for _, item := range items {
			d.requireFits(t, s.Items, item, where+"[]")
		}
	case "string":
		require.IsType(t, "", v, where)
	case "integer":
		require.IsType(t, 0.0, v, where)
	case "boolean":
		require.IsType(t, true, v, where)
	default:
		require.Fail(t, "a type that is not looked at", "%s: %q", where, s.Type)
	}
	if s.Enum != nil {
		require.Contains(t, s.Enum, v, where)
	}
}

// requireDescribed checks one answer against the document, and returns its status.
func (d *openAPI) requireDescribed(t *testing.T, path string, res *http.Response) string {
	t.Helper()
	status := strconv.Itoa(res.StatusCode)
	response := d.operation(t, path).Responses[status]
	require.NotNil(t, response, "%s is answered %s: %s", path, status, kittest.BodyOf(t, res))
	if name, found := strings.CutPrefix(response.Ref, "#/components/responses/"); found {
		response = d.Components.Responses[name]
	}
	contentType := res.Header.Get("Content-Type")
	if res.StatusCode == http.StatusSeeOther {
		require.Empty(t, response.Content)
		return status
	}
	require.Contains(t, response.Content, contentType)
	var body any
	require.NoError(t, json.Unmarshal(kittest.BodyOf(t, res), &body))
	d.requireFits(t, response.Content[contentType].Schema, body, path+" "+status)
	return status
}

// Rule: flows: docs/openapi.json names the paths, methods and statuses of the mount, and no others.
func TestOpenAPI(t *testing.T) {
	doc := readOpenAPI(t)
	described := make(map[string]string)
	for path, methods := range doc.Paths {
		require.Len(t, methods, 1, path)
		for method := range methods {
			described[path] = strings.ToUpper(method)
		}
	}
	require.Equal(t, descopehttp.Methods(), described)

	project := descopetest.NewServer()
	for path, method := range described {
		w := httptest.NewRecorder()
		project.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(`{}`)))
		assert.NotContains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, w.Code, "the fake has %s", path)
	}

	seen := make(map[string][]string) // statuses of a path
	for _, play := range openAPIPlays {
		for _, c := range kittest.Flows {
			if !strings.HasPrefix(c.Path, "/") {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				defer kittest.Settle()
				for _, res := range play(t, c) {
					seen[c.Path] = append(seen[c.Path], doc.requireDescribed(t, c.Path, res))
				}
			})
		}
	}
	for path := range described {
		var statuses []string
		for status := range doc.operation(t, path).Responses {
			if status != "default" {
				statuses = append(statuses, status)
			}
		}
		slices.Sort(statuses)
		slices.Sort(seen[path])
		assert.Equal(t, slices.Compact(seen[path]), statuses, path)
	}
}

// openAPIPlays are what can happen to a flow.
var openAPIPlays = []func(*testing.T, kittest.Flow) []*http.Response{
	playGood, playForms, playOtherSites, playBadBodies, playUpstream, playRefusals, playBadTokens, playLate, playFloods,
}

func playGood(t *testing.T, c kittest.Flow) []*http.Response {
	var all []*http.Response
	for _, delivery := range []descopehttp.Delivery{descopehttp.InCookies, descopehttp.SessionInBody, descopehttp.InBody} {
		k := kittest.NewForFlows(t, new(kittest.Wiretap), func(cfg *descopehttp.Config) { cfg.Tokens = delivery })
		tokens := k.Project.SignIn(kittest.Bob)
		r := c.Request(k, tokens)
		if delivery == descopehttp.InBody {
			r.Header.Set("Authorization", "Bearer "+k.Project.ProjectID()+":"+tokens.Refresh)
		}
		all = append(all, kittest.Serve(k.Handler(), r))
	}
	return all
}

func playForms(t *testing.T, c kittest.Flow) []*http.Response {
	k := kittest.NewForFlows(t, new(kittest.Wiretap))
	r := c.Request(k, k.Project.SignIn(kittest.Bob))
	if r.Method != http.MethodPost {
		return nil
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return []*http.Response{kittest.Serve(k.Handler(), r)}
}

func playOtherSites(t *testing.T, c kittest.Flow) []*http.Response {
	k := kittest.NewForFlows(t, new(kittest.Wiretap))
	r := c.Request(k, k.Project.SignIn(kittest.Bob))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	return []*http.Response{kittest.Serve(k.Handler(), r)}
}

func playBadBodies(t *testing.T, c kittest.Flow) []*http.Response {
	k := kittest.NewForFlows(t, new(kittest.Wiretap))
	method := descopehttp.Methods()[c.Path]
	var all []*http.Response
	for _, body := range []string{"{", `{}`, `{"loginId":"a","code":"x"}`, `{"x":"` + strings.Repeat("x", 64<<10) + `"}`} {
		for _, contentType := range []string{"application/json", "text/plain"} {
			for _, tokens := range []descopetest.Tokens{{}, k.Project.SignIn(kittest.Bob)} {
				r := kittest.WithCookies(httptest.NewRequest(method, c.Path, strings.NewReader(body)), tokens.Session, tokens.Refresh)
				r.Header.Set("Content-Type", contentType)
				all = append(all, kittest.Serve(k.Handler(), r))
			}
		}
	}
	return all
}

func playUpstream(t *testing.T, c kittest.Flow) []*http.Response {
	var all []*http.Response
	for _, fault := range []descopetest.Fault{
		{Status: 500}, {Status: 429}, {Delay: time.Minute}, {Status: 400, Body: `{"errorCode":"E011004"}`}, {Status: 401, Body: `{"errorCode":"E064001"}`},
		{Status: 401, Body: `{"errorCode":"E061004"}`}, {Status: 429, Body: `{"errorCode":"E061103"}`}, {Status: 400, Body: `{"errorCode":"E999999"}`},
	} {
		k := kittest.NewForFlows(t, new(kittest.Wiretap))
		tokens := k.Project.SignIn(kittest.Bob)
		k.Project.Fail(c.Upstream, fault)
		all = append(all, kittest.Serve(k.Handler(), c.Request(k, tokens)))
		kittest.Settle()
	}
	return all
}

func playRefusals(t *testing.T, c kittest.Flow) []*http.Response {
	k := kittest.NewForFlows(t, new(kittest.Wiretap), func(cfg *descopehttp.Config) {
		cfg.StepUpForUpdate = true
		cfg.LoginOptions = func(*http.Request, string, map[string]any) error { return descopehttp.ErrForbidden }
	})
	return []*http.Response{
		kittest.Serve(k.Handler(), c.Request(k, k.Project.SignIn(kittest.Bob))),
		kittest.Serve(k.Handler(), c.Request(k, k.Project.StepUp(kittest.Ada))), // for a login id of Bob's
	}
}

// playBadTokens comes with what is no refresh token.
func playBadTokens(t *testing.T, c kittest.Flow) []*http.Response {
	k := kittest.NewForFlows(t, new(kittest.Wiretap))
	return []*http.Response{kittest.Serve(k.Handler(), kittest.InHeader(c.Request(k, descopetest.Tokens{}), k.Project.ProjectID(), "a.b.c"))}
}

// playLate comes with a refresh token that was overtaken.
func playLate(t *testing.T, c kittest.Flow) []*http.Response {
	k := kittest.NewForFlows(t, new(kittest.Wiretap))
	k.Project.Configure(kittest.Rotating)
	b := kittest.SignIn(k, kittest.Bob)
	old := b.Copied()
	for range 2 { // the second shows what the first has brought
		require.Equal(t, http.StatusOK, b.Do(k.Handler(), kittest.Post(kittest.RefreshPath, `{}`)).StatusCode)
	}
	return []*http.Response{old.Do(k.Handler(), c.Request(k, descopetest.Tokens{}))}
}

// playFloods asks for more than there is, as one user in one network.
func playFloods(t *testing.T, c kittest.Flow) []*http.Response {
	const many = 200
	k := kittest.NewForFlows(t, new(kittest.Wiretap), func(cfg *descopehttp.Config) {
		cfg.Limits = descopehttp.Limits{SessionCalls: 1, AccountCalls: 1, SecondFactorCalls: 1, SignInCalls: 1}
	})
	tokens := k.Project.SignIn(kittest.Bob)
	var (
		all [many]*http.Response
		wg  sync.WaitGroup
	)
	for i := range all {
		wg.Go(func() { all[i] = kittest.Serve(k.Handler(), c.Request(k, tokens)) })
	}
	wg.Wait()
	return all[:]
}
