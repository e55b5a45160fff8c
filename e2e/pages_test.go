package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

// A gallery looks at pages as they are in a tab: in both colour schemes, wide
// and narrow, by machine and, with -screenshots, for people.
type gallery struct {
	*tab
	axe string // the source of axe-core
}

func newGallery(t *testing.T) *gallery {
	t.Helper()
	needBrowser(t)
	axe, err := os.ReadFile(filepath.Join(webPackages(t), "axe-core", "axe.min.js"))
	require.NoError(t, err)
	if *screenshots != "" {
		require.NoError(t, os.MkdirAll(*screenshots, 0o755))
	}
	g := &gallery{newBrowser(t), string(axe)}
	g.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
		return err
	})
	return g
}

type size struct {
	name          string
	width, height int64
	phone         bool
}

// look checks the page as it is now.
func (g *gallery) look(name string) {
	t := g.t
	t.Helper()
	until[bool](g.tab, `document.readyState === "complete"`)
	for _, scheme := range []string{"light", "dark"} {
		g.prefer("prefers-color-scheme", scheme)
		for _, size := range mountedSizes {
			g.resize(size.width, size.height, size.phone)
			view := fmt.Sprintf("%s-%s-%s", name, size.name, scheme)
			assert.True(t, evaluate[bool](g.tab, `document.documentElement.scrollWidth <= innerWidth`), "%s is wider than the window", view)
			assert.Empty(t, evaluate[[]string](g.tab, sticksOut), "%s: outside its box", view)
			switch {
			case scheme == "light":
				g.checkAccessibility(view, `{}`)
			case !size.phone: // only the colours are others, and they do not depend on the size
				g.checkAccessibility(view, `{ runOnly: ["color-contrast"] }`)
			}
			g.shoot(view)
		}
	}
	g.resize(1280, 900, false)
}

// sticksOut finds what is wider than the card that it is in.
const sticksOut = `[...document.querySelectorAll(".card, .demo")].flatMap((box) => {
	const edge = box.getBoundingClientRect().right - parseFloat(getComputedStyle(box).paddingRight);
	return [...box.querySelectorAll("*")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > edge);
}).map((e) => e.outerHTML)`

// checkAccessibility has axe-core judge the page.
func (g *gallery) checkAccessibility(view, options string) {
	g.t.Helper()
	type violation struct {
		ID, Impact, Help string
		Nodes            []string
	}
	if !evaluate[bool](g.tab, `typeof axe === "object"`) {
		evaluate[bool](g.tab, `((0, eval)(%s), true)`, g.axe)
	}
	found := evaluate[[]violation](g.tab, `axe.run(document, `+options+`).then((result) => result.violations.map((v) =>
		({ ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.map((n) => n.html + " " + n.failureSummary) })))`)
	for _, v := range found {
		if v.Impact == "serious" || v.Impact == "critical" {
			assert.Fail(g.t, "not accessible", "%s: %s (%s): %s\n%q", view, v.ID, v.Impact, v.Help, v.Nodes)
		} else {
			g.t.Logf("%s: %s (%s): %s %q", view, v.ID, v.Impact, v.Help, v.Nodes)
		}
	}
}

// shoot writes a picture of the whole page.
func (g *gallery) shoot(view string) {
	g.t.Helper()
	if *screenshots == "" {
		return
	}
	g.call(func(ctx context.Context) error {
		picture, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
			Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: new(true),
		})
		if err != nil {
			return err
		}
		img, err := png.Decode(bytes.NewReader(picture.Data))
		if err != nil {
			return err
		}
		smaller, err := compress(img)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(*screenshots, view+".png"), smaller, 0o644)
	})
}

// compress makes a picture of a page a third of the size: a page has few colours,
// and of the shades at the edges of its letters the most frequent are enough.
func compress(img image.Image) ([]byte, error) {
	counts := make(map[color.Color]int)
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			counts[img.At(x, y)]++
		}
	}
	frequent := slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] })
	small := image.NewPaletted(bounds, frequent[:min(len(frequent), 64)])
	nearest := make(map[color.Color]uint8)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := img.At(x, y)
			index, ok := nearest[c]
			if !ok {
				index = uint8(small.Palette.Index(c))
				nearest[c] = index
			}
			small.SetColorIndex(x, y, index)
		}
	}
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err := encoder.Encode(&b, small)
	return b.Bytes(), err
}

// The picture at the top of the README: a key to scan, and what the example's panel shows of
// 200 requests whose session had expired. With -screenshots it is written, for docs/screenshots.
func TestReadmePicture(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	s := startDemo(t)
	const width, height = 660, 556
	pictures := make(map[string][]image.Image)
	shoot := func(selector string) {
		for _, scheme := range []string{"light", "dark"} {
			g.prefer("prefers-color-scheme", scheme)
			pictures[scheme] = append(pictures[scheme], g.cut(selector, width, height))
		}
	}
	g.resize(width, 900, false)
	g.open(s.url + "/account/signup")
	g.fill("Login ID", "grace@example.com")
	g.enter()
	scan(g.tab)
	shoot(".card")
	g.sees("This is what the app of")
	g.click("Use this code")
	g.at("/account/")
	until[bool](g.tab, `document.querySelector("#answered").innerText > 3`)
	g.click("Expire my session and send 200 requests")
	g.sees("200 requests at once")
	shoot(".demo")
	if *screenshots == "" {
		return
	}
	for scheme, parts := range pictures {
		content, err := compress(beside(parts))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(*screenshots, "overview-"+scheme+".png"), content, 0o644))
	}
}

// cut takes a picture of the page from the top of an element on.
func (g *gallery) cut(selector string, width, height float64) (img image.Image) {
	g.t.Helper()
	top := evaluate[float64](g.tab, `(scrollTo(0, 0), document.querySelector(%s).getBoundingClientRect().top)`, selector)
	g.call(func(ctx context.Context) error {
		picture, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
			Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: new(true),
			Clip: &page.Viewport{X: 0, Y: top - 16, Width: width, Height: height, Scale: 1},
		})
		if err != nil {
			return err
		}
		img, err = png.Decode(bytes.NewReader(picture.Data))
		return err
	})
	return img
}

func beside(parts []image.Image) image.Image {
	size := parts[0].Bounds()
	all := image.NewRGBA(image.Rect(0, 0, size.Dx()*len(parts), size.Dy()))
	for i, part := range parts {
		draw.Draw(all, size.Add(image.Pt(i*size.Dx(), 0)), part, image.Point{}, draw.Src)
	}
	return all
}

// The pictures of the README are there, and quick to load.
func TestReadmePictures(t *testing.T) {
	const maxSize = 250_000 // bytes
	readme, err := os.ReadFile(filepath.Join("testdata", "README.md"))
	require.NoError(t, err)
	var names []string
	for _, match := range regexp.MustCompile(`(?:src|srcset)="(docs/screenshots/[^"]+)"`).FindAllSubmatch(readme, -1) {
		name := filepath.Base(string(match[1]))
		names = append(names, name)
		picture, err := os.ReadFile(filepath.Join("testdata", string(match[1])))
		require.NoError(t, err)
		assert.Less(t, len(picture), maxSize, name)
		_, err = png.DecodeConfig(bytes.NewReader(picture))
		assert.NoError(t, err, name)
	}
	kept, err := os.ReadDir(filepath.Join("testdata", "docs", "screenshots"))
	require.NoError(t, err)
	var files []string
	for _, file := range kept {
		files = append(files, file.Name())
	}
	assert.Len(t, files, 2)
	assert.ElementsMatch(t, files, names)
}

// The pages of go run ./example, which has the kit's pages and a few of its own.
func TestExamplePages(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	s := startDemo(t)

	g.open(s.url)
	g.look("home")
	g.click("Sign up")
	g.fill("Login ID", "grace@example.com")
	g.enter()
	scan(g.tab)
	g.sees("This is what the app of")
	g.look("key")
	g.click("Use this code")
	g.at("/account/")
	g.open(s.url + "/admin")
	g.sees("You may not open this")
	g.look("refused")
	g.click("Sign out")
	g.at("/account/signed-out")

	g.open(s.url + "/account/signin")
	g.fill("Login ID", kittest.Ada)
	g.sees("This is what the app of")
	g.look("signin")
	g.click("Use this code")
	g.at("/account/")
	until[bool](g.tab, `document.querySelector("#answered").textContent > 1`)
	g.look("account")
	for _, page := range []string{"orders", "admin"} {
		g.open(s.url + "/" + page)
		g.at("/" + page)
		g.look(page)
	}
	g.open(s.url + "/account/authenticator")
	g.at("/account/signin")
	g.sees("This is what the app of")
	g.look("confirm")
	g.click("Use this code")
	g.at("/account/authenticator")
	g.open(s.url + "/payout")
	g.at("/payout")
	g.look("payout")
	g.open(s.url)
	g.sees("Welcome back")
	g.look("home-signed-in")
}
