// Package soak_test runs several replicas at full load over real HTTP and a real
// Redis, while Descope, the line to it, the keys and Redis fail at random, and
// sees that nobody who is signed in is signed out and that nothing is left over.
package soak_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/redistest"
	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

var duration = flag.Duration("soak", defaultDuration(), "how long the load lasts")

func defaultDuration() time.Duration {
	if os.Getenv("DESCOPEHTTP_CI") != "" {
		return 20 * time.Second
	}
	return 3 * time.Second
}

func TestMain(m *testing.M) {
	// The client's own log says every dial that fails, and most of them are meant to.
	redis.SetLogger(new(logging.VoidLogger))
	os.Exit(m.Run())
}

const (
	replicaCount    = 3
	userCount       = 240
	tabsAtOnce      = 6
	sessionTTL      = 4 * time.Second
	successorWindow = 59 * time.Second // the kit's minute, less what an answer takes
	patience        = 20 * time.Second // for what has to happen
	warmUp          = 75 * time.Second // until the replicas remember a minute of renewals
	heapMeasured    = 2 * warmUp       // runs shorter than this say nothing about the heap
	heapGrowth      = 1.2
	maxRounds       = 1_000_000 // of one user
)

// Rule: renewing: against all of it at once: random interleavings of users, tabs, logouts,
// faults and replicas in fake time; full load while everything around fails.
func TestSoak(t *testing.T) {
	before := runtime.NumGoroutine()
	s := newSoak(t)
	s.up.spoil()
	s.load(t)
	s.recover()
	s.shutDown(t)
	requireGoroutines(t, before)
	t.Logf("%v\n%s", s, s.figures(t))
	for _, v := range s.violations {
		t.Errorf("%s", v)
	}
}

// A soak is everything that runs.
type soak struct {
	up       *upstream
	line     *httptest.Server // to up
	redis    *redistest.Server
	replicas []*replica
	clients  *http.Transport
	users    []*person

	gate sync.RWMutex // held by users while they ask, and by who needs quiet

	mu         sync.Mutex // guards the rest
	counts     map[string]int
	violations []string
}

func newSoak(t *testing.T) *soak {
	s := &soak{
		up:      newUpstream(),
		redis:   redistest.Start(t),
		clients: &http.Transport{MaxIdleConnsPerHost: userCount * tabsAtOnce},
		counts:  make(map[string]int),
	}
	s.line = httptest.NewServer(s.up)
	for range replicaCount {
		s.replicas = append(s.replicas, s.newReplica(t, strconv.Itoa(len(s.replicas))))
	}
	for i := range userCount {
		s.users = append(s.users, s.newPerson(t, i))
	}
	return s
}

// A replica is a server with nothing in common with the others but Redis.
type replica struct {
	auth   *descopehttp.Auth
	server *httptest.Server
	calls  *http.Transport // to Descope
	redis  *redis.Client
	log    *logCounter
	meter  *meter
}

// A replicaLine is a replica's way to Descope. It says whose it is, and enters in
// the ledger what did not arrive.
type replicaLine struct {
	next http.RoundTripper
	name string
	up   *upstream
}

func (l replicaLine) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(replicaHeader, l.name)
	res, err := l.next.RoundTrip(r)
	if err != nil {
		l.up.lose(r)
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		l.up.lose(r)
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

func (s *soak) newReplica(t *testing.T, name string) *replica {
	r := &replica{
		calls: &http.Transport{MaxIdleConnsPerHost: 64},
		redis: redis.NewClient(&redis.Options{Addr: s.redis.Addr}),
		log:   &logCounter{soak: s},
	}
	meter, observer := newMeter()
	r.meter = meter
	var err error
	r.auth, err = descopehttp.New(descopehttp.Config{
		ProjectID:         s.up.ProjectID(),
		BaseURL:           s.line.URL,
		HTTPClient:        &http.Client{Transport: replicaLine{r.calls, name, s.up}},
		Cookies:           descopehttp.Cookies{InsecureHTTP: true},
		Leeway:            -1,
		MaxCachedSessions: userCount,
		RefreshStore:      descoperedis.NewRefreshStore(r.redis, ""),
		Logger:            slog.New(r.log),
		Observer:          observer,
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/auth/", r.auth.Handler())
	mux.Handle("/", r.auth.RequireSession(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		session, _ := descopehttp.SessionFromContext(req.Context())
		_, _ = io.WriteString(w, session.Subject())
	})))
	r.server = httptest.NewServer(mux)
	return r
}

// logCounter counts what the kit tells its operator.
type logCounter struct {
	slog.Handler // none: With is not used
	soak         *soak
}

func (*logCounter) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelDebug }

func (c *logCounter) Handle(_ context.Context, r slog.Record) error {
	text := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" || a.Key == "timeout" {
			text += " " + a.String()
		}
		return true
	})
	c.soak.count("log: " + text)
	return nil
}

func (s *soak) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

func (s *soak) violate(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts["VIOLATIONS"]++
	if len(s.violations) < 20 {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

// A person has a browser with several tabs.
type person struct {
	soak    *soak
	loginID string
	subject string
	client  *http.Client
	jar     http.CookieJar
	site    *url.URL // of all replicas: cookies do not know ports
}

func (s *soak) newPerson(t *testing.T, i int) *person {
	p := &person{soak: s, loginID: fmt.Sprintf("user%d@example.com", i)}
	s.up.AddUser(descopetest.User{LoginID: p.loginID})
	p.subject, _ = s.up.SessionClaims(p.loginID)["sub"].(string)
	var err error
	p.site, err = url.Parse(s.replicas[0].server.URL)
	require.NoError(t, err)
	p.newBrowser()
	return p
}

// newBrowser gives the person a browser that is signed in.
func (p *person) newBrowser() {
	p.jar, _ = cookiejar.New(nil) // without options it cannot fail
	tokens := p.soak.up.SignIn(p.loginID)
	p.jar.SetCookies(p.site, []*http.Cookie{
		{Name: "DS", Value: tokens.Session, Path: "/"},
		{Name: "DSR", Value: tokens.Refresh, Path: "/"},
	})
	p.client = &http.Client{Jar: p.jar, Transport: tap{p}, Timeout: patience}
}

// cookie returns what the browser holds now.
func (p *person) cookie(name string) string { return cookieIn(p.jar.Cookies(p.site), name) }

func cookieIn(cookies []*http.Cookie, name string) string {
	for _, c := range cookies {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// A tap sees what a browser sends and gets, before its jar does.
type tap struct{ person *person }

func (t tap) RoundTrip(r *http.Request) (*http.Response, error) {
	t.person.soak.up.show(cookieIn(r.Cookies(), "DSR"))
	res, err := t.person.soak.clients.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	t.person.judge(r, res, string(body))
	return res, nil
}

// judge holds an answer against what the refresh tokens are worth, the one that
// was sent and the one that the browser has by now.
func (p *person) judge(r *http.Request, res *http.Response, body string) {
	s := p.soak
	s.count(fmt.Sprintf("%d %s", res.StatusCode, r.URL.Path))
	if r.URL.Path == "/" && res.StatusCode == http.StatusOK && body != p.subject {
		s.violate("%s is served as %s", p.loginID, body)
	}
	deletes := slices.ContainsFunc(res.Cookies(), func(c *http.Cookie) bool { return c.MaxAge < 0 })
	if strings.HasSuffix(r.URL.Path, logoutPath) || res.StatusCode != http.StatusUnauthorized && !deletes {
		return
	}
	held, heldWhy := s.up.verdict(p.cookie("DSR"))
	sent, sentWhy := s.up.verdict(cookieIn(r.Cookies(), "DSR"))
	if held || sent {
		s.violate("%s: %s is answered %d, deletes cookies: %v; the token sent: %s; the browser's: %s; %s",
			p.loginID, r.URL.Path, res.StatusCode, deletes, sentWhy, heldWhy, body)
		return
	}
	s.count(fmt.Sprintf("excluded: answered %d, deletes cookies: %v, token %s", res.StatusCode, deletes, heldWhy))
}

// ask sends one request to any replica. What goes wrong on the way is none of
// the kit's business; what is answered has been judged.
func (p *person) ask(ctx context.Context, method, path, body string) (status int) {
	base := p.soak.replicas[rand.IntN(replicaCount)].server.URL
	r, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		p.soak.violate("request: %v", err)
		return 0
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := p.client.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			p.soak.count("hung up")
		} else {
			p.soak.count("no answer: " + reasonOf(err))
		}
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// reasonOf leaves the URL out, whose port differs from run to run.
func reasonOf(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Sprintf("%T", err)
}

// use is what a person does until the end.
func (p *person) use(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for range maxRounds {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		p.soak.gate.RLock()
		p.visit(ctx)
		p.soak.gate.RUnlock()
		pause.Reset(time.Duration(rand.IntN(1200)) * time.Millisecond)
	}
}

// visit uses some tabs at once, and signs in again if that is needed.
func (p *person) visit(ctx context.Context) {
	if good, _ := p.soak.up.verdict(p.cookie("DSR")); !good {
		p.soak.count("signed in again")
		p.newBrowser()
	}
	var tabs sync.WaitGroup
	for range 1 + rand.IntN(tabsAtOnce) {
		tabs.Go(func() {
			for n := 1 + rand.IntN(3); n > 0 && ctx.Err() == nil; n-- {
				p.tab(ctx)
			}
		})
	}
	tabs.Wait()
	if rand.IntN(100) == 0 {
		p.leaveAndReturn(ctx)
	}
}

func (p *person) tab(ctx context.Context) {
	switch n := rand.IntN(100); {
	case n < 4:
		p.ask(ctx, http.MethodPost, "/auth"+refreshPath, "{}")
	case n < 12:
		p.ask(ctx, http.MethodGet, "/auth"+mePath, "")
	case n < 15:
		hurried, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(30))*time.Millisecond)
		defer cancel()
		p.ask(hurried, http.MethodGet, "/", "")
	default:
		p.ask(ctx, http.MethodGet, "/", "")
	}
}

// leaveAndReturn logs out and in again, as people do.
func (p *person) leaveAndReturn(ctx context.Context) {
	p.ask(ctx, http.MethodPost, "/auth"+logoutPath, "{}")
	if p.cookie("DSR") != "" {
		p.soak.count("a logout without an answer")
		p.newBrowser() // the old one is not to be served any more
	}
	body := fmt.Sprintf(`{"loginId":%q,"code":%q}`, p.loginID, p.soak.up.Code(p.loginID))
	p.ask(ctx, http.MethodPost, "/auth"+verifyPath, body)
}

// load lets everybody work and everything fail.
func (s *soak) load(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), *duration)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range s.users {
		all.Go(func() { p.use(ctx) })
	}
	all.Go(func() { s.trouble(ctx) })
	if *duration < heapMeasured {
		all.Wait()
		t.Logf("the heap is not judged: %v is shorter than %v", *duration, heapMeasured)
		return
	}
	var early uint64
	select {
	case <-time.After(warmUp):
		early = s.heap()
	case <-ctx.Done():
	}
	all.Wait()
	late := s.heap()
	t.Logf("heap after %v: %.1f MB, at the end: %.1f MB", warmUp, mb(early), mb(late))
	if float64(late) > heapGrowth*float64(early) {
		s.violate("the heap has grown from %.1f to %.1f MB", mb(early), mb(late))
	}
}

func mb(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// heap waits until nobody is asking, and returns what is in use then.
func (s *soak) heap() uint64 {
	s.gate.Lock()
	defer s.gate.Unlock()
	runtime.GC()
	runtime.GC() // what has a finalizer goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// trouble breaks things, one after another and all over again.
func (s *soak) trouble(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch {
		case i%14 == 3:
			s.count("Redis killed")
			s.redis.Kill()
			s.up.noteStoreLost()
		case i%14 == 3+1+i/14%3: // after half a second or more
			if !s.redis.Restart() {
				s.violate("redis-server does not start again")
				return
			}
		case i%9 == 2:
			s.count("keys rotated")
			s.up.Configure(func(c *descopetest.Settings) { c.KeyDelay = time.Duration(i%2) * 700 * time.Millisecond })
			s.up.RotateKeys()
		case i%23 == 7:
			s.count("outages of Descope")
			s.up.breakDown(1200 * time.Millisecond)
		case i%31 == 20:
			s.up.Configure(func(c *descopetest.Settings) { c.RotateRefresh = false })
		case i%31 == 24:
			s.up.Configure(func(c *descopetest.Settings) { c.RotateRefresh = true })
		}
	}
}

// recover ends all trouble and sees that everybody is in again.
func (s *soak) recover() {
	s.up.heal()
	if !s.redis.Running() && !s.redis.Restart() {
		s.violate("redis-server does not start again")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out atomic.Int64
	var all sync.WaitGroup
	for _, p := range s.users {
		all.Go(func() {
			if !p.isIn(ctx) {
				out.Add(1)
			}
		})
	}
	all.Wait()
	if n := out.Load(); n > 0 {
		s.violate("%d people are not in again after %v without faults", n, patience)
	}
}

// isIn asks until the person is served, unless the tokens are beyond hope, only several
// replicas together know what became of them, or the browser went back to an older one.
func (p *person) isIn(ctx context.Context) bool {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if good, _ := p.soak.up.verdict(p.cookie("DSR")); !good {
			return true
		}
		if p.ask(ctx, http.MethodGet, "/", "") == http.StatusOK {
			return true
		}
		select {
		case <-ctx.Done():
			if p.soak.up.scattered(p.cookie("DSR")) {
				p.soak.count("excluded: not in again: renewed by several replicas, and Redis lost what they told each other")
				return true
			}
			if p.soak.up.overtaken(p.cookie("DSR")) {
				p.soak.count("excluded: not in again: two answers came in the wrong order")
				return true
			}
			_, why := p.soak.up.verdict(p.cookie("DSR"))
			p.soak.count("not in again: " + why)
			return false
		case <-tick.C:
		}
	}
}

// shutDown ends everything as a careful user would.
func (s *soak) shutDown(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.clients.CloseIdleConnections()
	for _, r := range s.replicas {
		require.NoError(t, r.server.Config.Shutdown(ctx))
		r.server.Close()
		require.NoError(t, r.auth.Wait(ctx))
		r.calls.CloseIdleConnections()
		require.NoError(t, r.redis.Close())
	}
	s.line.Close()
	s.redis.Kill()
}

// requireGoroutines waits until no more goroutines run than before.
func requireGoroutines(t *testing.T, before int) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline.C:
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			t.Fatalf("%d goroutines before, %d left:\n%s", before, runtime.NumGoroutine(), stacks.String())
		}
	}
}

// String is what happened.
func (s *soak) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.counts)
	s.up.mu.Lock()
	defer s.up.mu.Unlock()
	for name, n := range s.up.calls {
		all["Descope: "+name] = n
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d users on %d replicas for %v", userCount, replicaCount, *duration)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "\n%9d  %s", all[name], name)
	}
	return text.String()
}
