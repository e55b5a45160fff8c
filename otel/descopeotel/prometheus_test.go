package descopeotel_test

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/otel/descopeotel"
)

// scrape returns what `curl /metrics` prints after the hour of live.
func scrape(t *testing.T) (text string) {
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	require.NoError(t, err)
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	live(t, func(c *descopehttp.Config) { c.Observer = descopeotel.New(meters) })
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	content, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(content)
}

// The README prints what a scrape does, and each panel of the dashboard finds its metrics.
func TestPrometheus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := scrape(t)
		readme, err := os.ReadFile("README.md")
		require.NoError(t, err)
		_, printed, _ := strings.Cut(string(readme), "$ curl -s http://127.0.0.1:9464/metrics")
		_, printed, _ = strings.Cut(printed, "\n")
		printed, _, _ = strings.Cut(printed, "```")
		require.Greater(t, strings.Count(printed, "\n"), 8)
		for line := range strings.Lines(printed) {
			// How many were renewed early differs: sessions are spread by a random number.
			if series, _, ok := strings.Cut(line, " "); ok {
				assert.True(t, strings.Contains(text, "\n"+series+" "), line)
			}
		}

		content, err := os.ReadFile("dashboard.json")
		require.NoError(t, err)
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(content, &dashboard))
		require.Greater(t, len(dashboard.Panels), 8)
		for _, p := range dashboard.Panels {
			require.NotEmpty(t, p.Targets, p.Title)
			for _, target := range p.Targets {
				names := regexp.MustCompile(`descopehttp_[a-z_]+?(_seconds|_total|_closed)(_bucket|_count|_sum|)\b`).FindAllString(target.Expr, -1)
				require.NotEmpty(t, names, target.Expr)
				for _, name := range names {
					assert.True(t, strings.Contains(text, "\n"+name+"{") || strings.Contains(text, "\n"+name+" "), "%s: %s", p.Title, name)
				}
				for _, label := range regexp.MustCompile(`(descopehttp_(?:class|outcome|cached|event)|error_type)(=|!=|=~|!~|[,)])`).FindAllStringSubmatch(target.Expr, -1) {
					assert.True(t, strings.Contains(text, label[1]+`="`), "%s: %s", p.Title, label[1])
				}
			}
		}
	})
}
