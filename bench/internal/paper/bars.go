package paper

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// A Kind says how a bar is drawn.
type Kind int

const (
	Other  Kind = iota
	Own         // in color, its label bold
	Floor       // what the others are measured by
	Quoted      // hollow: not of this run
)

// A Bar is a line of a bar chart.
type Bar struct {
	Label, Value string
	Length       float64
	Kind         Kind
}

// Bars is a chart of horizontal bars. Its texts are left to the font of whoever shows it, so
// each is anchored where it must not move and has room for the widest.
type Bars struct {
	Title, Note string
	Mark        float64 // where a dashed line goes
	Bars        []Bar
}

// A Text is one of a chart, in pixels. X is where it begins or, for AtEnd, where it ends.
type Text struct {
	Content string
	X, Y    float64
	Size    float64
	AtEnd   bool
	Bold    bool
	ink     string // a class of the style sheet
}

// Measures of a chart, in pixels. Its width is that of a README's column on GitHub.
const (
	ChartWidth = 830
	margin     = 14
	labelEnd   = 268
	barStart   = labelEnd + 10
	barMost    = 750 // beyond is room for the value
	rowHeight  = 25
	barHeight  = 15
	firstRow   = 62
	fontSize   = 14
)

// widest is the width of a character in the widest of the usual sans-serif fonts, on
// average over a label and in parts of the font's size. Bold is wider.
const (
	widest     = 0.62
	widestBold = 0.7
)

// Span returns from where to where a text reaches at most.
func (t Text) Span() (from, to float64) {
	each := widest
	if t.Bold {
		each = widestBold
	}
	width := each * t.Size * float64(utf8.RuneCountInString(t.Content))
	if t.AtEnd {
		return t.X - width, t.X
	}
	return t.X, t.X + width
}

// Height returns that of the picture.
func (b *Bars) Height() float64 { return firstRow + rowHeight*float64(len(b.Bars)) + 36 }

func (b *Bars) scale(length float64) float64 {
	longest := b.Mark
	for _, bar := range b.Bars {
		longest = max(longest, bar.Length)
	}
	return barStart + (barMost-barStart)*length/longest
}

// Texts returns all that the picture says.
func (b *Bars) Texts() []Text {
	list := []Text{
		{Content: b.Title, X: margin, Y: 30, Size: 16, Bold: true},
		{Content: b.Note, X: margin, Y: b.Height() - 14, Size: 12, ink: "soft"},
	}
	for i, bar := range b.Bars {
		y := firstRow + rowHeight*float64(i) + barHeight/2 + fontSize*0.36
		own := bar.Kind == Own
		list = append(list,
			Text{Content: bar.Label, X: labelEnd, Y: y, Size: fontSize, AtEnd: true, Bold: own},
			Text{Content: bar.Value, X: b.scale(bar.Length) + 7, Y: y, Size: fontSize, Bold: own})
	}
	return list
}

// Style sheets of the two pictures.
const (
	light = `.page{fill:#fff}text{fill:#1f2328}.soft{fill:#59636e}.own{fill:#1a7f5a}.floor{fill:#59636e}.other{fill:#9aa3af}.quoted{fill:none;stroke:#9aa3af}.mark{stroke:#1f2328}`
	dark  = `.page{fill:#0d1117}text{fill:#f0f6fc}.soft{fill:#9198a1}.own{fill:#3fb950}.floor{fill:#9198a1}.other{fill:#656c76}.quoted{fill:none;stroke:#656c76}.mark{stroke:#f0f6fc}`
)

var classes = map[Kind]string{Other: "other", Own: "own", Floor: "floor", Quoted: "quoted"}

// Save writes name.svg and name-dark.svg: two, because GitHub's theme need not be the
// browser's, and <picture> knows it.
func (b *Bars) Save(dir, name string) error {
	for suffix, style := range map[string]string{"": light, "-dark": dark} {
		if err := os.WriteFile(filepath.Join(dir, name+suffix+".svg"), []byte(b.svg(style)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bars) svg(style string) string {
	var s strings.Builder
	p := To(&s)
	p(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%g" viewBox="0 0 %[1]d %[2]g" role="img" aria-label="%s">`, ChartWidth, b.Height(), escape(b.Title))
	p(`<style>text{font-family:system-ui,-apple-system,"Segoe UI","Liberation Sans",Arial,sans-serif}%s</style>`, style)
	p(`<rect class="page" width="%d" height="%g"/>`, ChartWidth, b.Height())
	for i, bar := range b.Bars {
		y := firstRow + rowHeight*float64(i)
		p(`<rect class="%s" x="%d" y="%g" width="%.1f" height="%d"/>`, classes[bar.Kind], barStart, y, b.scale(bar.Length)-barStart, barHeight)
	}
	p(`<path class="mark" stroke-dasharray="3 3" d="M%.1f %dV%g"/>`, b.scale(b.Mark), firstRow-8, b.Height()-38)
	for _, t := range b.Texts() {
		p("%s", t.element())
	}
	p(`</svg>`)
	return s.String()
}

func (t Text) element() string {
	attributes := ""
	if t.ink != "" {
		attributes += fmt.Sprintf(` class="%s"`, t.ink)
	}
	if t.AtEnd {
		attributes += ` text-anchor="end"`
	}
	if t.Bold {
		attributes += ` font-weight="600"`
	}
	return fmt.Sprintf(`<text x="%.1f" y="%.1f" font-size="%g"%s>%s</text>`, t.X, t.Y, t.Size, attributes, escape(t.Content))
}

func escape(text string) string {
	var s strings.Builder
	xml.EscapeText(&s, []byte(text)) // a Builder never fails
	return s.String()
}
