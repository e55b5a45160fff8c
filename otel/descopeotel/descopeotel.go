// Package descopeotel has OpenTelemetry see what descopehttp does: metrics of all that
// happens, and a span for each call to Descope.
//
//	auth, err := descopehttp.New(descopehttp.Config{
//		ProjectID:  "P2…",
//		Observer:   descopeotel.New(meterProvider),
//		HTTPClient: &http.Client{Transport: descopeotel.Transport(nil, tracerProvider)},
//	})
//
// The README has a table of the metrics and a dashboard. Nothing says who: no user, no login
// id and no token is an attribute, and all values are from short lists.
package descopeotel

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/descopehttp/descopehttp"
)

const (
	scope   = "github.com/descopehttp/descopehttp/otel/descopeotel"
	version = "0.1.0"
)

// Attributes. What failed has error.type, which is that of the semantic conventions
// (OpenTelemetry, "Recording errors"): it is absent from what went well.
const (
	classKey   = attribute.Key("descopehttp.class")
	outcomeKey = attribute.Key("descopehttp.outcome")
	cachedKey  = attribute.Key("descopehttp.cached")
	eventKey   = attribute.Key("descopehttp.event")
	errorKey   = attribute.Key("error.type")
)

// Bounds of histograms, in seconds.
var (
	// A cached session takes a microsecond or two, and a full check a few tenths of a
	// millisecond; what takes longer waits for somebody.
	verdictBounds = []float64{0.000002, 0.000005, 0.00001, 0.0001, 0.001, 0.01, 0.1, 0.25, 0.5, 1, 2.5, 5}
	// Those that the semantic conventions have for HTTP, and what a call may take at most.
	callBounds  = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30}
	storeBounds = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25}
)

// New returns a Config.Observer that makes metrics with a meter of p. One Observer is for one
// Auth. It is safe for concurrent use, costs no lock where a combination of attributes has
// been seen before, and keeps no user's data. An instrument that the provider refuses is left
// out, and the provider says so.
func New(p metric.MeterProvider) func(context.Context, descopehttp.Event) {
	o := newObserver(p.Meter(scope, metric.WithInstrumentationVersion(version)))
	return o.observe
}

type observer struct {
	durations map[string]metric.Float64Histogram // by the event's name; never written to
	counters  map[string]metric.Int64Counter     // the same
	notices   metric.Int64Counter

	options atomic.Pointer[map[labels]options]
	mu      sync.Mutex // guards all below, and that options are replaced
	closed  map[string]bool
	keys    time.Time // when they were fetched last
}

// Labels are what an event has in common with others.
type labels struct {
	name, class, outcome, code string
	cached                     bool
}

// Options say the same to an instrument, once for all: to make them costs allocations.
type options struct {
	record []metric.RecordOption
	add    []metric.AddOption
}

// maxOptions bounds combinations of attributes, of which there are some hundred: a code of
// Descope's is the only part that comes from outside. What is beyond has the error.type that
// the semantic conventions have for it.
const (
	skipped    = "skipped" // of a store: no time at all would spoil the histogram
	maxOptions = 1000
	otherError = "_OTHER"
)

func newObserver(m metric.Meter) *observer {
	histogram := func(name, description string, bounds []float64) metric.Float64Histogram {
		h, _ := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		return h
	}
	counter := func(name, unit, description string) metric.Int64Counter {
		c, _ := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		return c
	}
	o := &observer{
		durations: map[string]metric.Float64Histogram{
			"verdict":   histogram("descopehttp.verdict.duration", "Time to judge a request or a token.", verdictBounds),
			"refresh":   histogram("descopehttp.refresh.duration", "Time to renew a session, or to be served with what a renewal brought.", callBounds),
			"flow":      histogram("descopehttp.flow.duration", "Time of a flow, such as a sign-in.", callBounds),
			"call":      histogram("descopehttp.call.duration", "Time of a call to Descope, with the wait for its turn.", callBounds),
			"key_fetch": histogram("descopehttp.key_fetch.duration", "Time to fetch the key set.", callBounds),
			"store":     histogram("descopehttp.store.duration", "Time of a call of a store.", storeBounds),
		},
		counters: map[string]metric.Int64Counter{
			skipped: counter("descopehttp.store.skips", "{call}", "Calls of a store that were left out, because it had just failed."),
			"guard": counter("descopehttp.guard.refusals", "{refusal}", "Sessions that a guard refused."),
		},
		notices: counter("descopehttp.notices", "{notice}", "What an operator should know, by event; docs/operations.md of descopehttp says what to do."),
		closed:  make(map[string]bool),
	}
	for _, class := range []string{"session", "account", "second_factor", "sign_in"} {
		o.closed[class] = false
	}
	o.options.Store(new(map[labels]options))
	o.observeStates(m)
	return o
}

// observeStates has the provider ask for what lasts.
func (o *observer) observeStates(m metric.Meter) {
	_, _ = m.Int64ObservableGauge("descopehttp.gate.closed", metric.WithUnit("{gate}"),
		metric.WithDescription("1 while calls of a class fail at once, because Descope cannot be reached or has asked for fewer."),
		metric.WithInt64Callback(func(_ context.Context, to metric.Int64Observer) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			for class, closed := range o.closed {
				n := int64(0)
				if closed {
					n = 1
				}
				to.Observe(n, metric.WithAttributes(classKey.String(class)))
			}
			return nil
		}))
	_, _ = m.Float64ObservableGauge("descopehttp.keys.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the key set was fetched: an hour at most while fetches succeed."),
		metric.WithFloat64Callback(func(_ context.Context, to metric.Float64Observer) error {
			o.mu.Lock()
			defer o.mu.Unlock()
			if !o.keys.IsZero() {
				to.Observe(time.Since(o.keys).Seconds())
			}
			return nil
		}))
}

func (o *observer) observe(ctx context.Context, e descopehttp.Event) {
	l := labels{e.Name, e.Class, e.Outcome, e.Code, e.Cached}
	if e.Name == "store" && e.Outcome == skipped {
		l.name = skipped
	}
	if h, ok := o.durations[l.name]; ok {
		h.Record(ctx, e.Took.Seconds(), o.optionsOf(l).record...)
		if e.Name == "key_fetch" && e.Outcome == "ok" {
			o.mu.Lock()
			o.keys = time.Now()
			o.mu.Unlock()
		}
		return
	}
	if c, ok := o.counters[l.name]; ok {
		c.Add(ctx, 1, o.optionsOf(l).add...)
		return
	}
	switch e.Name {
	case "gate_closed", "gate_paused", "gate_open":
		o.mu.Lock()
		o.closed[e.Class] = e.Name != "gate_open"
		o.mu.Unlock()
	}
	o.notices.Add(ctx, 1, o.optionsOf(l).add...)
}

func (o *observer) optionsOf(l labels) options {
	if made, ok := (*o.options.Load())[l]; ok {
		return made
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	all := *o.options.Load()
	if made, ok := all[l]; ok {
		return made
	}
	if len(all) >= maxOptions {
		if l.code != "" {
			l.code = otherError
		}
		return makeOptions(l)
	}
	all = maps.Clone(all)
	if all == nil {
		all = make(map[labels]options)
	}
	all[l] = makeOptions(l)
	o.options.Store(&all)
	return all[l]
}

func makeOptions(l labels) options {
	var attributes []attribute.KeyValue
	add := func(key attribute.Key, value string) {
		if value != "" {
			attributes = append(attributes, key.String(value))
		}
	}
	add(classKey, l.class)
	add(outcomeKey, l.outcome)
	switch {
	case l.name == "verdict":
		attributes = append(attributes, cachedKey.Bool(l.cached))
	case l.outcome == "":
		add(eventKey, l.name)
	}
	switch {
	case l.code != "":
		add(errorKey, l.code)
	case l.outcome == "unreached" || l.outcome == "failed":
		add(errorKey, l.outcome) // nobody has said why
	}
	set := metric.WithAttributeSet(attribute.NewSet(attributes...))
	return options{record: []metric.RecordOption{set}, add: []metric.AddOption{set}}
}
