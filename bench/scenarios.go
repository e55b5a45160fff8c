package bench

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
)

// answerTo returns the status of a handler's answer.
func answerTo(h http.Handler, r *http.Request) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// expired signs the visitor in and returns a request whose session has expired.
// Sessions that are renewed from then on live as usual.
func (p *Project) expired() *http.Request {
	p.Configure(func(s *descopetest.Settings) { s.SessionTTL = -time.Minute })
	tokens := p.SignIn(visitor)
	p.Configure(func(s *descopetest.Settings) { s.SessionTTL = 10 * time.Minute })
	return Cookies(tokens.Session, tokens.Refresh)
}

// A StampedeResult is what came of many requests at once with one expired
// session, while refresh tokens rotate and a refresh takes 100 ms.
type StampedeResult struct {
	Requests, Refreshes, OK int
}

// Stampede sends n requests to the kit.
func Stampede(ctx context.Context, n int) (StampedeResult, error) {
	p, err := NewProject()
	if err != nil {
		return StampedeResult{}, err
	}
	defer p.Close()
	a, err := p.Auth()
	if err != nil {
		return StampedeResult{}, err
	}
	if err := a.Ready(ctx); err != nil {
		return StampedeResult{}, err
	}
	p.Configure(func(s *descopetest.Settings) { s.RotateRefresh = true })
	p.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
	r := p.expired()
	h := a.RequireSession(nothing)
	statuses := make([]int, n)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() { statuses[i] = answerTo(h, r.Clone(ctx)) })
	}
	wg.Wait()
	ok := 0
	for _, status := range statuses {
		if status == http.StatusOK {
			ok++
		}
	}
	return StampedeResult{n, p.Requests(refreshPath), ok}, nil
}

// A FloodResult is what came of many tokens with invented kids, while the
// project's key rotates.
type FloodResult struct {
	Name    string
	Sent    int
	Fetches int           // of the key set, after the first
	Took    time.Duration // of the flood
	// AcceptedAfter is how long after the rotation the first token of the new key
	// was let in; negative if it was not by the end.
	AcceptedAfter time.Duration
}

// FloodEffort bounds a flood.
type FloodEffort struct {
	Tokens   int
	Duration time.Duration // over which they are spread; the key rotates after a sixth of it
	Patience time.Duration // for a token of the new key
}

// Flood sends the same to each contender at a time.
func Flood(ctx context.Context, contenders []Contender, e FloodEffort) ([]FloodResult, error) {
	results := make([]FloodResult, len(contenders))
	errs := make([]error, len(contenders))
	var wg sync.WaitGroup
	for i, c := range contenders {
		wg.Go(func() { results[i], errs[i] = flood(ctx, c, e) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

func flood(ctx context.Context, c Contender, e FloodEffort) (FloodResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := NewProject()
	if err != nil {
		return FloodResult{}, err
	}
	defer p.Close()
	h, err := admitting(ctx, p, c)
	if err != nil {
		return FloodResult{}, err
	}
	p.Reset() // the first fetch is not the flood's

	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range e.Tokens {
			sleepUntil(began.Add(e.Duration * time.Duration(i) / time.Duration(e.Tokens)))
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				answerTo(h, p.invented(i).WithContext(ctx))
			})
		}
	})

	sleepUntil(began.Add(e.Duration / 6))
	p.RotateKeys()
	rotated := time.Now()
	token := p.Sign(nil, p.claims(nil))
	result := FloodResult{Name: c.Name, Sent: e.Tokens, AcceptedAfter: -1}
	for time.Since(rotated) < e.Patience && ctx.Err() == nil {
		if answerTo(h, Bearer(token).WithContext(ctx)) == http.StatusOK {
			result.AcceptedAfter = time.Since(rotated)
			break
		}
		sleepUntil(time.Now().Add(50 * time.Millisecond))
	}
	wg.Wait()
	result.Took = time.Since(began)
	result.Fetches = p.KeyFetches()
	return result, ctx.Err()
}

// invented returns a request with a token of a kid that nobody has.
func (p *Project) invented(i int) *http.Request {
	encode := base64.RawURLEncoding.EncodeToString
	header := fmt.Sprintf(`{"alg":"RS256","kid":"SK2invented%020d","typ":"JWT"}`, i)
	payload := p.Token[indexOf(p.Token, '.', 1)+1 : indexOf(p.Token, '.', 2)]
	signature := make([]byte, 256)
	signature[0] = byte(i)
	return Bearer(encode([]byte(header)) + "." + payload + "." + encode(signature))
}

// indexOf returns where the nth b is in s.
func indexOf(s string, b byte, n int) int {
	for i := range len(s) {
		if s[i] == b {
			if n--; n == 0 {
				return i
			}
		}
	}
	return -1
}

func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }

// A RefreshUnderFlood is how long one refresh takes, whose call takes 100 ms,
// alone and while callers with invented kids wait for a key endpoint that takes
// a second.
type RefreshUnderFlood struct {
	Callers        int
	Alone, Flooded time.Duration // medians
}

// MeasureRefreshUnderFlood takes the median of so many rounds; each takes a key
// set's floor of five seconds.
func MeasureRefreshUnderFlood(ctx context.Context, callers, rounds int) (RefreshUnderFlood, error) {
	p, err := NewProject()
	if err != nil {
		return RefreshUnderFlood{}, err
	}
	defer p.Close()
	a, err := p.Auth()
	if err != nil {
		return RefreshUnderFlood{}, err
	}
	if err := a.Ready(ctx); err != nil {
		return RefreshUnderFlood{}, err
	}
	p.Fail(refreshPath, descopetest.Fault{Delay: 100 * time.Millisecond, Times: -1})
	p.Fail(keysPath, descopetest.Fault{Delay: time.Second, Times: -1})
	h := a.RequireSession(nothing)
	refresh := func() (time.Duration, error) {
		r := p.expired()
		began := time.Now()
		if status := answerTo(h, r); status != http.StatusOK {
			return 0, fmt.Errorf("refresh answered %d", status)
		}
		return time.Since(began), nil
	}
	var alone, flooded []time.Duration
	for range rounds {
		took, err := refresh()
		if err != nil {
			return RefreshUnderFlood{}, err
		}
		alone = append(alone, took)

		sleepUntil(time.Now().Add(5 * time.Second)) // so that the flood's fetch may begin
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() { answerTo(h, p.invented(i)) })
		}
		sleepUntil(time.Now().Add(200 * time.Millisecond)) // all are waiting
		took, err = refresh()
		wg.Wait()
		if err != nil {
			return RefreshUnderFlood{}, err
		}
		flooded = append(flooded, took)
		if err := ctx.Err(); err != nil {
			return RefreshUnderFlood{}, err
		}
	}
	slices.Sort(alone)
	slices.Sort(flooded)
	return RefreshUnderFlood{callers, alone[len(alone)/2], flooded[len(flooded)/2]}, nil
}

// An OutageResult is what visitors are answered while a part of Descope is away,
// and after how long: the first ones, and one after them.
type OutageResult struct {
	Name, Away    string
	First, Second Answer
}

// An Answer is a status and how long it took.
type Answer struct {
	Status int
	Took   time.Duration
}

func timedAnswer(h http.Handler, r *http.Request) Answer {
	began := time.Now()
	status := answerTo(h, r)
	return Answer{status, time.Since(began)}
}

// Outage takes parts of Descope away. Libraries that check tokens and no more
// are asked how they do without keys.
func Outage(ctx context.Context, others []Contender) ([]OutageResult, error) {
	var results []OutageResult
	for _, tt := range []struct {
		away  string
		fault descopetest.Fault
	}{
		{"/refresh answers 503", descopetest.Fault{Status: 503, Times: -1}},
		{"/refresh never answers", descopetest.Fault{Delay: time.Hour, Times: -1}},
	} {
		result, err := refreshOutage(ctx, tt.away, tt.fault)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	for _, c := range append(Named(UncachedBearer), others...) {
		result, err := keysOutage(ctx, c)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func refreshOutage(ctx context.Context, away string, fault descopetest.Fault) (OutageResult, error) {
	p, err := NewProject()
	if err != nil {
		return OutageResult{}, err
	}
	defer p.Close()
	// Without sockets, so that closing does not wait for what never answers.
	a, err := p.Auth(func(c *descopehttp.Config) { c.HTTPClient = p.Client() })
	if err != nil {
		return OutageResult{}, err
	}
	if err := a.Ready(ctx); err != nil {
		return OutageResult{}, err
	}
	p.Fail(refreshPath, fault)
	h := a.RequireSession(nothing)
	result := OutageResult{Name: "descopehttp", Away: away}
	// As many visitors at once as it takes to notice; the slowest answer counts.
	first := make([]Answer, 5)
	var wg sync.WaitGroup
	for i := range first {
		r := p.expired()
		wg.Go(func() { first[i] = timedAnswer(h, r) })
	}
	wg.Wait()
	result.First = slices.MaxFunc(first, func(a, b Answer) int { return cmp.Compare(a.Took, b.Took) })
	result.Second = timedAnswer(h, p.expired())
	return result, ctx.Err()
}

func keysOutage(ctx context.Context, c Contender) (OutageResult, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := NewProject()
	if err != nil {
		return OutageResult{}, err
	}
	defer p.Close()
	p.Fail(keysPath, descopetest.Fault{Status: 503, Times: -1})
	result := OutageResult{Name: c.Name, Away: "keys answer 503 from the start"}
	if c.Kind == Ours {
		result.Name = "descopehttp"
	}
	// Some fetch when they are made, so that is part of the first answer.
	began := time.Now()
	h, err := c.Handler(ctx, p, nothing)
	if err != nil {
		return OutageResult{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	result.First = timedAnswer(h, c.Request(p).WithContext(ctx))
	result.First.Took = time.Since(began)
	result.Second = timedAnswer(h, c.Request(p).WithContext(ctx))
	return result, ctx.Err()
}
