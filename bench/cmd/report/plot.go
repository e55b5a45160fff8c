package main

import (
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/descopehttp/descopehttp/bench"
	"github.com/descopehttp/descopehttp/bench/internal/paper"
)

// bar is one line of the plot.
type bar struct {
	name  string
	ratio float64
	fill  color.Color
}

var (
	oursColor   = color.RGBA{0x1a, 0x7f, 0x5a, 0xff}
	othersColor = color.RGBA{0x8a, 0x93, 0xa0, 0xff}
	quotedColor = color.RGBA{0xcd, 0xd2, 0xd9, 0xff}
	floorColor  = color.RGBA{0x33, 0x3a, 0x45, 0xff}
)

// plotted are the contenders of the plot: one line for each library.
var plotted = []string{bench.CachedBearer, bench.UncachedBearer, bench.BareCheck, bench.GolangJWT, "gin-jwt 2.10.3", "echo-jwt 4.4.0",
	bench.GoOIDC, bench.JWX, bench.Auth0, bench.JWTAuth, bench.Clerk}

func (r *report) bars() []bar {
	var list []bar
	for _, x := range r.results {
		if !slices.Contains(plotted, x.Name) {
			continue
		}
		fill := map[bench.Kind]color.Color{bench.Floor: floorColor, bench.Ours: oursColor, bench.Others: othersColor}[x.Kind]
		list = append(list, bar{x.Name, r.ratio(x), fill})
	}
	for _, q := range quoted {
		list = append(list, bar{q.name + " *", q.ratio, quotedColor})
	}
	// The cheapest is at the top: bars are drawn from the bottom.
	slices.SortStableFunc(list, func(a, b bar) int {
		switch {
		case a.ratio > b.ratio:
			return -1
		case a.ratio < b.ratio:
			return 1
		}
		return 0
	})
	return list
}

// plotRatios draws the ratios as bars.
func (r *report) plotRatios(file string) error {
	list := r.bars()
	p := paper.NewPlot("Time to check a session: the bare signature check is 1, shorter is better")
	p.Title.Padding = vg.Points(12)
	p.X.Label.Text = "ratio to sha256 + RSA verify     * measured elsewhere on " + quotedOn + ", not in this run"
	p.X.Label.Padding = vg.Points(6)
	p.X.Label.TextStyle.Font.Size = vg.Points(10)

	names, values := make([]string, len(list)), make([]string, len(list))
	ends := make(plotter.XYs, len(list))
	for i, b := range list {
		names[i], values[i] = b.name, ratioText(b.ratio)
		ends[i] = plotter.XY{X: b.ratio, Y: float64(i)}
		chart, err := plotter.NewBarChart(plotter.Values{b.ratio}, vg.Points(14))
		if err != nil {
			return err
		}
		chart.Horizontal, chart.XMin = true, float64(i)
		chart.Color, chart.LineStyle.Width = b.fill, 0
		p.Add(chart)
	}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: ends, Labels: values})
	if err != nil {
		return err
	}
	labels.Offset = vg.Point{X: vg.Points(4), Y: vg.Points(1)}
	for i := range labels.TextStyle {
		paper.Style(&labels.TextStyle[i])
		labels.TextStyle[i].YAlign = text.YCenter
	}
	limit, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.6}, {X: 1, Y: float64(len(list)) - 0.4}})
	if err != nil {
		return err
	}
	limit.LineStyle = draw.LineStyle{Color: floorColor, Width: vg.Points(0.75), Dashes: []vg.Length{vg.Points(3), vg.Points(3)}}
	p.Add(limit, labels)

	longest := list[0].ratio
	p.X.Min, p.X.Max = 0, longest*1.08
	p.X.Tick.Marker = plot.TickerFunc(func(_, most float64) (ticks []plot.Tick) {
		for x := 0.0; x <= most; x++ {
			ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprint(x)})
		}
		return ticks
	})
	p.NominalY(names...)
	p.Y.LineStyle.Width = 0

	return paper.Save(p, file, vg.Points(float64(80+24*len(list))))
}
