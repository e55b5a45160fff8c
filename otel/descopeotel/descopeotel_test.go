package descopeotel_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/otel/descopeotel"
)

// A meter reads back what was recorded.
type meter struct {
	t      testing.TB
	reader *sdkmetric.ManualReader
	*sdkmetric.MeterProvider
}

func newMeter(t testing.TB) *meter {
	reader := sdkmetric.NewManualReader()
	return &meter{t, reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
}

func (m *meter) config(c *descopehttp.Config) { c.Observer = descopeotel.New(m) }

// A series is one metric with one set of attributes.
type series struct {
	name, unit, attributes string
	n                      float64 // the count of a histogram, and the value of another
}

func (m *meter) read() (all []series) {
	var data metricdata.ResourceMetrics
	require.NoError(m.t, m.reader.Collect(context.Background(), &data))
	for _, scope := range data.ScopeMetrics {
		assert.Equal(m.t, "github.com/descopehttp/descopehttp/otel/descopeotel", scope.Scope.Name)
		for _, metric := range scope.Metrics {
			assert.NotEmpty(m.t, metric.Description, metric.Name)
			add := func(attributes attribute.Set, n float64) {
				var words []string
				for _, kv := range attributes.ToSlice() {
					words = append(words, string(kv.Key)+"="+kv.Value.String())
				}
				all = append(all, series{metric.Name, metric.Unit, strings.Join(words, " "), n})
			}
			switch points := metric.Data.(type) {
			case metricdata.Histogram[float64]:
				for _, p := range points.DataPoints {
					add(p.Attributes, float64(p.Count))
				}
			case metricdata.Sum[int64]:
				for _, p := range points.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range points.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Gauge[float64]:
				for _, p := range points.DataPoints {
					add(p.Attributes, p.Value)
				}
			default:
				m.t.Errorf("%s is a %T", metric.Name, metric.Data)
			}
		}
	}
	return all
}

// value returns what was recorded under a name with these attributes.
func (m *meter) value(name, attributes string) float64 {
	for _, s := range m.read() {
		if s.name == name && s.attributes == attributes {
			return s.n
		}
	}
	return -1
}

// live plays an hour of a small site with everything in it: a morning, an outage, a store and
// keys that fail.
func live(t *testing.T, edits ...func(*descopehttp.Config)) (*kittest.Kit, *kittest.Browser) {
	store := kittest.NewMemoryStore()
	k := kittest.New(t, append(edits, func(c *descopehttp.Config) { c.RefreshStore = store })...)
	k.Project.Configure(func(s *descopetest.Settings) { s.AllowCodeReuse = true })
	page := k.RequireSession(new(kittest.Spy))
	b := new(kittest.Browser)
	b.Do(page, kittest.Get("/"))
	for _, code := range []string{kittest.WrongCode(k, kittest.Ada), k.Project.Code(kittest.Ada)} {
		b.Do(k.Handler(), kittest.Post(kittest.VerifyPath, fmt.Sprintf(`{"loginId":%q,"code":%q}`, kittest.Ada, code)))
	}
	b.Do(k.Require(descopehttp.Role("owner"))(new(kittest.Spy)), kittest.Get("/"))
	for range 240 {
		b.Do(page, kittest.Get("/"))
		kittest.Elapse(5 * time.Second)
	}
	k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, Times: -1})
	for range 240 {
		b.Do(page, kittest.Get("/"))
		kittest.Elapse(5 * time.Second)
	}
	k.Project.Reset()
	for range 240 {
		b.Do(page, kittest.Get("/"))
		kittest.Elapse(5 * time.Second)
	}
	k.Project.Fail(kittest.KeysPath, descopetest.Fault{Status: 503})
	store.Break(errors.New("away"))
	kittest.Elapse(kittest.Past)
	b.Do(page, kittest.Get("/"))
	require.NoError(t, k.Wait(t.Context()))
	return k, b
}

var row = regexp.MustCompile("(?m)^\\| `(descopehttp\\.[a-z_.]+)` \\| ([a-z]+) \\| `([^`]+)` \\|")

// Each metric of the README's table comes of what happens, with its unit, and no other.
func TestEveryMetric(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(t)
		k, b := live(t, m.config)
		readme, err := os.ReadFile("README.md")
		require.NoError(t, err)
		var documented, produced []string
		for _, found := range row.FindAllStringSubmatch(string(readme), -1) {
			documented = append(documented, found[1]+" "+found[3])
		}
		all := m.read()
		for _, s := range all {
			if name := s.name + " " + s.unit; !slices.Contains(produced, name) {
				produced = append(produced, name)
			}
			for _, secret := range []string{kittest.Ada, "eyJ", b.Session, b.Refresh, k.Project.ProjectID(), "U2"} {
				if secret != "" {
					assert.NotContains(t, s.attributes, secret)
				}
			}
		}
		require.NotEmpty(t, documented)
		assert.ElementsMatch(t, documented, produced)
		assert.Less(t, len(all), 60, "%v", all)
	})
}

func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeter(t)
		k := kittest.New(t, m.config)
		page := k.RequireSession(new(kittest.Spy))
		b := kittest.SignIn(k, kittest.Ada)
		b.Do(page, kittest.Get("/"))
		b.Do(page, kittest.Get("/"))
		b.Do(page, kittest.Get("/"))
		kittest.Serve(page, kittest.Get("/"))
		assert.EqualValues(t, 1, m.value("descopehttp.verdict.duration", "descopehttp.cached=false descopehttp.class=request descopehttp.outcome=ok"))
		assert.EqualValues(t, 2, m.value("descopehttp.verdict.duration", "descopehttp.cached=true descopehttp.class=request descopehttp.outcome=ok"))
		assert.EqualValues(t, 1, m.value("descopehttp.verdict.duration", "descopehttp.cached=false descopehttp.class=request descopehttp.outcome=refused error.type=no_session"))
		kittest.Serve(k.Require(descopehttp.MFA())(new(kittest.Spy)), kittest.WithBearer(kittest.Get("/"), b.Session))
		assert.EqualValues(t, 1, m.value("descopehttp.guard.refusals", "descopehttp.outcome=refused error.type=mfa_required"))
		kittest.Elapse(kittest.Past)
		assert.EqualValues(t, kittest.Past.Seconds(), m.value("descopehttp.keys.age", ""))

		for _, gate := range []string{"session", "account", "second_factor", "sign_in"} {
			assert.Zero(t, m.value("descopehttp.gate.closed", "descopehttp.class="+gate), "from the start, so that an alert has something to look at")
		}
		k.Project.Fail(kittest.RefreshPath, descopetest.Fault{Drop: true, Times: -1})
		for range 10 {
			b.Do(page, kittest.Get("/"))
			kittest.Elapse(31 * time.Second)
		}
		assert.EqualValues(t, 1, m.value("descopehttp.gate.closed", "descopehttp.class=session"))
		assert.EqualValues(t, 10, m.value("descopehttp.call.duration", "descopehttp.class=session descopehttp.outcome=unreached error.type=unreached"))
		assert.EqualValues(t, 1, m.value("descopehttp.notices", "descopehttp.class=session descopehttp.event=gate_closed"))
		k.Project.Reset()
		require.Equal(t, http.StatusOK, b.Do(page, kittest.Get("/")).StatusCode)
		assert.Zero(t, m.value("descopehttp.gate.closed", "descopehttp.class=session"))
		assert.EqualValues(t, 1, m.value("descopehttp.refresh.duration", "descopehttp.outcome=renewed"))
		kittest.Logout(k, b)
		assert.EqualValues(t, 1, m.value("descopehttp.flow.duration", "descopehttp.class=sign_out descopehttp.outcome=ok"))
	})
}

// Whatever codes are answered with, there are so many series and no more.
func TestLabelsAreBounded(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	m := &meter{t, reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithCardinalityLimit(0))}
	observe := descopeotel.New(m)
	for i := range 5000 {
		observe(t.Context(), descopehttp.Event{Name: "call", Class: "session", Outcome: "refused", Code: fmt.Sprintf("E%06d", i)})
	}
	all := m.read()
	assert.Less(t, len(all), 1100)
	assert.EqualValues(t, 4000, m.value("descopehttp.call.duration", "descopehttp.class=session descopehttp.outcome=refused error.type=_OTHER"))
}
