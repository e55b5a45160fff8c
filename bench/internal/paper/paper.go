// Package paper is what the reports have in common: their words, their files and the look
// of their plots.
package paper

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A Printer prints a line.
type Printer func(format string, args ...any)

// To returns a Printer to w.
func To(w io.Writer) Printer {
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}

// Thousands returns n with commas.
func Thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", Thousands(n/1000), n%1000)
}

// Verdict says whether a promise is kept.
func Verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

// Publish prints what write writes and, unless dir is empty, keeps it there under name.
func Publish(stdout io.Writer, dir, name string, write func(io.Writer)) error {
	var page bytes.Buffer
	write(&page)
	if _, err := stdout.Write(page.Bytes()); err != nil || dir == "" {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), page.Bytes(), 0o644)
}

// Ink is the color of text.
var Ink = color.RGBA{0x1f, 0x23, 0x28, 0xff}

// The metrics of Liberation Sans are those of Arial and Helvetica, so a browser may take
// whichever it has.
const (
	typeface = "Liberation Sans"
	families = "Liberation Sans,Arial,Helvetica,sans-serif"
)

// Style gives texts of a plot the typeface and color of all.
func Style(styles ...*text.Style) {
	for _, style := range styles {
		style.Font.Variant, style.Color = "Sans", Ink
	}
}

// NewPlot returns a plot in the style of all.
func NewPlot(title string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = title
	Style(&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle)
	p.Title.TextStyle.Font.Size = vg.Points(13)
	return p
}

// Save draws a plot into an SVG file.
func Save(p *plot.Plot, file string, height vg.Length) error {
	width, margin := vg.Points(760), vg.Points(10)
	canvas := vgsvg.NewWith(vgsvg.UseWH(width, height))
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	p.Draw(draw.Crop(whole, margin, -margin, margin, -margin))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return fmt.Errorf("plot: %w", err)
	}
	return os.WriteFile(file, bytes.ReplaceAll(svg.Bytes(), []byte(typeface), []byte(families)), 0o644)
}
