package e2e

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/internal/kittest"
)

const maxPageWeight = 60_000 // bytes, all that is loaded for a page together

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

var sizes = []size{
	{"wide", 900, 700, false},
	{"phone", 390, 844, true},
}

// look checks the page as it is now.
func (g *gallery) look(name string) {
	t := g.t
	t.Helper()
	until[bool](g.tab, `document.readyState === "complete"`)
	g.mu.Lock()
	weight := g.weight
	g.mu.Unlock()
	t.Logf("%-22s %5.1f kB", name, weight/1000)
	assert.LessOrEqual(t, weight, float64(maxPageWeight), name)

	for _, scheme := range []string{"light", "dark"} {
		g.prefer("prefers-color-scheme", scheme)
		for _, size := range sizes {
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
		smaller, err := compress(picture.Data)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(*screenshots, view+".png"), smaller, 0o644)
	})
}

// compress makes a picture of a page a third of the size: a page has few colours,
// and of the shades at the edges of its letters the most frequent are enough.
func compress(picture []byte) ([]byte, error) {
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		return nil, err
	}
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
	err = encoder.Encode(&b, small)
	return b.Bytes(), err
}

// The pictures of the README are there, and quick to load.
func TestReadmePictures(t *testing.T) {
	const maxSize = 150_000 // bytes
	readme, err := os.ReadFile(filepath.Join("testdata", "README.md"))
	require.NoError(t, err)
	shown := regexp.MustCompile(`<img src="(docs/screenshots/[^"]+)"[^>]* alt="[^"]+"`).FindAllSubmatch(readme, -1)
	var names []string
	for _, match := range shown {
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
	assert.Len(t, files, 4)
	assert.ElementsMatch(t, files, names)
}

// The pages as go run ./example shows them.
func TestPages(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	s := startDemo(t)

	g.open(s.url)
	g.look("home")
	g.open(s.url + "/nowhere")
	g.look("not-found")
	g.open(s.url + "/signup")
	g.look("sign-up")
	g.fill("Login ID", kittest.Ada)
	g.enter()
	g.sees("Somebody has signed up")
	g.look("sign-up-exists")
	g.open(s.url + "/signup")
	g.fill("Login ID", "grace@example.com")
	g.enter()
	scan(g.tab)
	g.sees("s left")
	g.look("sign-up-key")
	g.open(s.url + "/signin")
	g.look("sign-in")
	g.fill("Login ID", kittest.Ada)
	g.fill("Code", "000000")
	g.enter()
	g.sees("That code does not fit")
	g.sees("s left")
	g.look("sign-in-wrong-code")

	g.open(s.url + "/signup")
	g.fill("Login ID", "grace@example.com")
	g.fill("Name", "Grace Hopper")
	g.enter()
	p := scan(g.tab)
	g.fill("Code", p.code(t))
	g.enter()
	g.at("/account")
	g.sees("grace@example.com")
	g.look("account")
	g.open(s.url)
	g.look("home-signed-in")
	g.open(s.url + "/payout")
	g.at("/signin")
	g.sees("s left")
	g.look("step-up")
	g.fill("Code", p.code(t))
	g.enter()
	g.at("/payout")
	g.fill("Account number", "DE89 3704 0044 0532 0130 00")
	g.enter()
	g.sees("Saved.")
	g.look("payout")
	g.open(s.url + "/authenticator")
	g.look("authenticator")
	g.click("Make a new key")
	p = scan(g.tab)
	g.sees("s left")
	g.look("authenticator-key")
	g.fill("Code", p.code(t))
	g.enter()
	g.sees("The new authenticator is in use.")
	g.look("authenticator-replaced")
	g.open(s.url + "/account")
	g.click("Sign out")
	g.at("/signin")
	g.sees("You are signed out.")
	g.look("signed-out")

	short := startDemo(t, "-session-ttl", "5s")
	g.open(short.url + "/signin")
	g.fill("Login ID", kittest.Ada)
	g.sees("s left")
	g.look("sign-in-code")
	g.click("Use this code")
	g.enter()
	g.at("/account")
	g.sees("3 times without you noticing")
	g.look("account-renewed")
}

// The pages of bad days, which the demo does not have.
func TestPagesInTrouble(t *testing.T) {
	t.Parallel()
	g := newGallery(t)
	s := startSite(t, func(s *descopetest.Settings) {
		s.SessionTTL = 2 * time.Second
		s.StepUpTTL = 10 * time.Second
	})

	busy := startSite(t, nil)
	busy.project.Fail(kittest.VerifyPath, descopetest.Fault{
		Status: http.StatusTooManyRequests,
		Header: http.Header{"Retry-After": {"90"}},
		Body:   `{"errorCode":"E130429","errorDescription":"Rate limit exceeded"}`,
	})
	g.open(busy.url + "/signin")
	g.fill("Login ID", kittest.Ada)
	g.fill("Code", "123456")
	g.enter()
	g.sees("Too many attempts.")
	g.look("sign-in-too-many")

	s.signIn(g.tab)

	g.open(s.url + "/payout")
	g.fill("Code", s.project.Code(kittest.Ada))
	g.enter()
	g.at("/payout")
	until[bool](g.tab, `!document.querySelector("#confirmed").checkVisibility()`)
	g.fill("Account number", "DE89 3704 0044 0532 0130 00")
	g.enter()
	g.sees("Your last code was too long ago.")
	g.look("payout-asks-again")

	g.open(s.url + "/account")
	g.sees(kittest.Ada)
	s.project.Fail("", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
	g.sees("You are still signed in; trying again.")
	g.look("account-away")
	g.open(s.url + "/account")
	g.sees("One moment")
	g.look("away")
	g.open(s.url + "/")
	g.sees("If you were, you still are.")
	g.look("home-away")
	g.open(s.url + "/signin?return_to=%2Fpayout")
	g.sees("If you were signed in, you still are")
	g.look("sign-in-away")

	s.project.Reset()
	g.open(s.url + "/account")
	g.sees(kittest.Ada)
	s.project.LogOut(kittest.Ada)
	g.sees("You are signed out")
	g.look("signed-out-elsewhere")

	// Somebody who comes back after the session was ended, and has not been told.
	s.project.Configure(func(s *descopetest.Settings) { s.SessionTTL = time.Second })
	s.signIn(g.tab)
	g.open(s.url + "/nowhere")
	s.project.LogOut(kittest.Ada)
	over := time.Now().Add(8 * time.Second) // with what the kit allows clocks to differ
	until[bool](g.tab, `Date.now() > %s`, over.UnixMilli())
	g.open(s.url + "/signin")
	g.sees("the session was ended elsewhere")
	g.look("sign-in-session-ended")
}
