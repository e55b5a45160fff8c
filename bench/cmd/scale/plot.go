package main

import (
	"fmt"
	"image/color"
	"path/filepath"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/descopehttp/descopehttp/bench/internal/paper"
	"github.com/descopehttp/descopehttp/bench/scale"
)

var (
	servedColor  = color.RGBA{0x1a, 0x7f, 0x5a, 0xff}
	refusedColor = color.RGBA{0xb4, 0x3e, 0x3e, 0xff}
	callsColor   = color.RGBA{0x33, 0x5c, 0x99, 0xff}
)

// A curve is a series, as so much a second.
type curve struct {
	name   string
	series []int
	color  color.Color
}

// draw writes the plots of what is there.
func (r *report) draw(dir string) error {
	for _, x := range r.of(scale.LongOutage) {
		title := fmt.Sprintf("%s users, Descope away from minute %.0f to %.0f", paper.Thousands(x.Users), x.Outage.At.Minutes(), end(x).Minutes())
		if err := curves(filepath.Join(dir, "scale-outage.svg"), title, []curve{
			{"answers of 200", x.OK, servedColor}, {"answers of 503", x.Unavailable, refusedColor}, {"calls to Descope", x.Calls, callsColor},
		}); err != nil {
			return err
		}
	}
	var list []curve
	for _, x := range r.of(scale.Rush) {
		if x.Rotation {
			continue
		}
		fill := servedColor
		name := fmt.Sprintf("%s users, the default limits", paper.Thousands(x.Users))
		switch {
		case x.Grant == scale.Plain:
			name, fill = name+", 100 calls in 60 s granted", refusedColor
		case x.Limits.SessionCalls > 0:
			name, fill = fmt.Sprintf("%s users, SessionCalls: %d", paper.Thousands(x.Users), x.Limits.SessionCalls), callsColor
		}
		list = append(list, curve{name, x.Calls, fill})
	}
	return curves(filepath.Join(dir, "scale-rush.svg"), "Calls to Descope when all come within two minutes", list)
}

// curves draws how much there was a second, over minutes.
func curves(file, title string, list []curve) error {
	p := paper.NewPlot(title)
	p.Title.Padding = vg.Points(8)
	p.X.Label.Text, p.Y.Label.Text = "minutes", "a second"
	p.Legend.Top, p.Legend.Left = true, true // its text may be wider than is known here
	p.Legend.XOffs, p.Legend.Padding = vg.Points(90), vg.Points(3)
	p.Y.Min = 0
	most := 0
	for _, c := range list {
		points := make(plotter.XYs, len(c.series))
		for i, n := range c.series {
			most = max(most, n)
			points[i] = plotter.XY{X: float64(i) * scale.Step.Minutes(), Y: float64(n) / scale.Step.Seconds()}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = c.color, vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(c.name, line)
	}
	p.Y.Max = 1.35 * float64(most) / scale.Step.Seconds() // room for the legend
	return paper.Save(p, file, vg.Points(320))
}
