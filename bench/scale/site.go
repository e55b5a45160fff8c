package scale

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// A tally is counted by Step.
type tally struct {
	began time.Time

	ok, unavailable, unauthorized, other series
	calls, tooMany                       series
	storeCalls, storeBytes               series
}

type series [entries]atomic.Int64

func (t *tally) add(s *series, n int) {
	i := min(max(int(time.Since(t.began)/Step), 0), entries-1)
	s[i].Add(int64(n))
}

func (s *series) until(end time.Duration) []int {
	list := make([]int, min(int((end+Step-1)/Step), entries))
	for i := range list {
		list[i] = int(s[i].Load())
	}
	return list
}

// A site is a Scenario in play.
type site struct {
	*Scenario
	project  *descopetest.Server
	store    *store
	replicas []http.Handler
	kits     []*descopehttp.Auth
	users    []user
	next     atomic.Int64 // the replica that the load balancer chooses

	tally                    tally
	renewals, slow, signOuts atomic.Int64
	visits                   sync.WaitGroup
}

func (s *site) now() time.Duration { return time.Since(s.tally.began) }

// Play plays the scenario in a bubble.
func (sc Scenario) Play() (*Result, error) {
	s := &site{Scenario: &sc, project: newProject(&sc), users: make([]user, sc.Users)}
	if err := s.open(); err != nil {
		return nil, err
	}
	if sc.Slept {
		s.signInAll()
		time.Sleep(night)
	}
	s.tally.began = time.Now()
	s.run()
	s.visits.Wait()
	r := s.result()
	if sc.Weigh {
		r.HeapBytes = s.weigh()
	}
	return r, nil
}

// open starts the replicas.
func (s *site) open() error {
	s.tally.began = time.Now()
	if s.Shared {
		s.store = newStore(&s.tally)
	}
	ways := make([]*address, max(s.Addresses, 1))
	for i := range ways {
		ways[i] = &address{site: s}
	}
	for i := range s.Replicas {
		client := &http.Client{Transport: ways[i%len(ways)]}
		if s.Peer {
			s.replicas = append(s.replicas, &peer{client, s.project.URL(), s.project.ProjectID()})
			continue
		}
		cfg := descopehttp.Config{
			ProjectID:          s.project.ProjectID(),
			BaseURL:            s.project.URL(),
			HTTPClient:         client,
			Limits:             s.Limits,
			MaxCachedSessions:  max(2*s.Users, 1000),
			MaxRememberedBytes: max(4<<10*s.Users, 64<<20),
			Logger:             slog.New(slog.DiscardHandler),
		}
		if s.store != nil {
			cfg.RefreshStore = s.store
		}
		a, err := descopehttp.New(cfg)
		if err == nil {
			err = a.Ready(context.Background())
		}
		if err != nil {
			return fmt.Errorf("scale: replica: %w", err)
		}
		s.kits = append(s.kits, a)
		s.replicas = append(s.replicas, a.RequireSession(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	}
	return nil
}

func (s *site) signInAll() {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < len(s.users); i += workers {
				s.users[i].signIn(s.project, i)
			}
		})
	}
	wg.Wait()
}

// run has the users come and go. A wheel has a slot for each tick; in it are those whose
// next page is due.
func (s *site) run() {
	random := rand.New(rand.NewPCG(1, 2))
	most := s.Come + max(s.Every, s.Retry)*11/10
	wheel := make([][]int32, int(most/tick)+2)
	for i := range s.users {
		at := int(random.Int64N(int64(max(s.Come, tick))) / int64(tick))
		wheel[at] = append(wheel[at], int32(i))
	}
	weighed := time.Duration(0)
	for n := 0; time.Duration(n)*tick < s.Lasts; n++ {
		slot := n % len(wheel)
		due := wheel[slot]
		wheel[slot] = nil
		for _, i := range due {
			s.visits.Go(func() { s.visit(int(i)) })
			every := s.paceOf(int(i))
			after := every*9/10 + time.Duration(random.Int64N(int64(every/5)))
			at := (n + max(int(after/tick), 1)) % len(wheel)
			wheel[at] = append(wheel[at], i)
		}
		if s.store != nil && s.now()-weighed >= time.Minute {
			weighed = s.now()
			synctest.Wait()
			s.store.weigh(s.Rotation)
		}
		time.Sleep(time.Until(s.tally.began.Add(time.Duration(n+1) * tick)))
	}
}

// paceOf returns the time until a user's next page, give or take a tenth.
func (s *site) paceOf(i int) time.Duration {
	u := &s.users[i]
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.Retry > 0 && u.refusedAt > 0 {
		return s.Retry
	}
	return s.Every
}

// A user is somebody with a browser, and how they fare.
type user struct {
	mu               sync.Mutex
	session, refresh string

	refusedAt     time.Duration // since when nothing is served; 0: it is
	longest, back time.Duration
	wasRefused    bool
	again         bool
}

func (u *user) signIn(p *descopetest.Server, i int) {
	t := p.SignIn(loginID(i))
	u.session, u.refresh = t.Session, t.Refresh
}

// visit is one page.
func (s *site) visit(i int) {
	u := &s.users[i]
	u.mu.Lock()
	if u.refresh == "" {
		u.signIn(s.project, i)
	}
	cookies := "__Host-DS=" + u.session + "; __Host-DSR=" + u.refresh
	u.mu.Unlock()
	if s.AtOnce <= 1 {
		s.ask(i, cookies)
		return
	}
	for range s.AtOnce {
		s.visits.Go(func() { s.ask(i, cookies) })
	}
}

var page = &url.URL{Path: "/"}

// ask sends one request.
func (s *site) ask(i int, cookies string) {
	r := &http.Request{
		Method: http.MethodGet, URL: page, RequestURI: "/", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Cookie": {cookies}}, Body: http.NoBody, Host: "shop.example.com", RemoteAddr: "192.0.2.1:1234",
	}
	w := &answer{header: make(http.Header, 4), status: http.StatusOK}
	began := s.now()
	s.replicas[s.replicaFor(i)].ServeHTTP(w, r)
	now := s.now()
	if now-began > slow {
		s.slow.Add(1)
	}
	switch w.status {
	case http.StatusOK:
		s.tally.add(&s.tally.ok, 1)
	case http.StatusServiceUnavailable:
		s.tally.add(&s.tally.unavailable, 1)
	case http.StatusUnauthorized:
		s.tally.add(&s.tally.unauthorized, 1)
	default:
		s.tally.add(&s.tally.other, 1)
	}
	u := &s.users[i]
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fares(w.status, now)
	if u.keep(w.header["Set-Cookie"]) {
		s.signOuts.Add(1)
	}
}

// replicaFor returns where the load balancer sends a request.
func (s *site) replicaFor(user int) int {
	if s.Sticky {
		return user % len(s.replicas)
	}
	return int(s.next.Add(1)) % len(s.replicas)
}

// fares notes an answer.
func (u *user) fares(status int, now time.Duration) {
	now = max(now, 1)
	switch {
	case status != http.StatusOK:
		u.wasRefused, u.again = true, u.again || u.back > 0
		if u.refusedAt == 0 {
			u.refusedAt = now
		}
	case u.refusedAt > 0:
		u.longest = max(u.longest, now-u.refusedAt)
		u.refusedAt = 0
		if u.back == 0 {
			u.back = now
		}
	}
}

// keep does what a browser does with cookies, and reports whether it was signed out.
func (u *user) keep(lines []string) (signedOut bool) {
	for _, line := range lines {
		pair, attributes, _ := strings.Cut(line, ";")
		name, value, _ := strings.Cut(pair, "=")
		if strings.Contains(attributes, "Max-Age=0") {
			value = ""
		}
		switch name {
		case "__Host-DS":
			u.session = value
		case "__Host-DSR":
			signedOut = value == ""
			u.refresh = value
		}
	}
	return signedOut
}

// An answer is what a browser looks at.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }
func (a *answer) WriteHeader(status int)      { a.status = status }

func (s *site) result() *Result {
	t, end := &s.tally, s.Lasts
	r := &Result{
		Scenario: *s.Scenario,
		OK:       t.ok.until(end), Unavailable: t.unavailable.until(end), Unauthorized: t.unauthorized.until(end), Other: t.other.until(end),
		Calls: t.calls.until(end), TooMany: t.tooMany.until(end), StoreCalls: t.storeCalls.until(end), StoreBytes: t.storeBytes.until(end),
		SessionBytes: len(s.users[0].session), Renewals: int(s.renewals.Load()), Slow: int(s.slow.Load()), SignedOut: int(s.signOuts.Load()),
	}
	for i := range s.users {
		u := &s.users[i]
		if u.wasRefused {
			r.Refused++
		}
		if u.again {
			r.Again++
		}
		if u.refusedAt > 0 {
			r.Away++
		}
		r.Longest, r.LastBack = max(r.Longest, u.longest), max(r.LastBack, u.back)
	}
	if s.store != nil {
		r.Store = s.store.use
	}
	return r
}

// weigh returns what the kit held: what is given back once it has forgotten all and
// nobody has it any more.
func (s *site) weigh() int {
	before := heap()
	s.replicas = nil
	time.Sleep(longIdle) // a timer has it while it remembers something
	s.kits = nil
	after := heap()
	runtime.KeepAlive(s) // users and Descope are not the kit's
	return before - after
}

func heap() int {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
