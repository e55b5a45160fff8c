package soak_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/otel/descopeotel"
)

// A meter reads what one replica's operator would see.
type meter struct{ reader *metric.ManualReader }

func newMeter() (*meter, func(context.Context, descopehttp.Event)) {
	m := &meter{metric.NewManualReader()}
	return m, descopeotel.New(metric.NewMeterProvider(metric.WithReader(m.reader)))
}

// A figure is how often something happened, and how long that took together.
type figure struct {
	count   uint64
	seconds float64
}

// addTo adds the histograms of a replica to those of the others.
func (m *meter) addTo(t *testing.T, figures map[string]figure) {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.Background(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, found := range scope.Metrics {
			histogram, ok := found.Data.(metricdata.Histogram[float64])
			if !ok {
				continue
			}
			for _, point := range histogram.DataPoints {
				name := rowOf(found.Name, point.Attributes)
				f := figures[name]
				figures[name] = figure{f.count + point.Count, f.seconds + point.Sum}
			}
		}
	}
}

// rowOf names a row by the metric and what was done with which outcome; problems and codes
// are added up.
func rowOf(name string, attributes attribute.Set) string {
	row := strings.TrimSuffix(strings.TrimPrefix(name, "descopehttp."), ".duration")
	for _, key := range []attribute.Key{"descopehttp.class", "descopehttp.outcome", "descopehttp.cached"} {
		value, ok := attributes.Value(key)
		switch {
		case !ok:
			row += " | "
		case key == "descopehttp.cached":
			row += " | " + map[bool]string{true: "cached"}[value.String() == "true"]
		default:
			row += " | " + value.String()
		}
	}
	return row
}

// figures returns a table of what all replicas have measured.
func (s *soak) figures(t *testing.T) string {
	t.Helper()
	figures := make(map[string]figure)
	for _, r := range s.replicas {
		r.meter.addTo(t, figures)
	}
	var verdicts uint64
	text := "| what | class | outcome | | count | mean |\n|---|---|---|---|---:|---:|\n"
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		f := figures[name]
		text += fmt.Sprintf("| %s | %d | %.4g ms |\n", name, f.count, 1000*f.seconds/float64(f.count))
		if strings.HasPrefix(name, "verdict | request | ok") {
			verdicts += f.count
		}
	}
	require.Positive(t, verdicts, "nothing was measured")
	return text
}
