package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
)

const (
	patience = time.Minute           // for what must happen
	interval = 20 * time.Millisecond // between two looks at a page
)

// One browser process serves the whole package.
var (
	startBrowser  = sync.OnceValues(launch)
	cancelBrowser []context.CancelFunc
)

var errNoChromium = errors.New("needs a Chromium: install the package chromium, or set CHROMIUM to the path of one")

func launch() (context.Context, error) {
	path, err := findChromium()
	if err != nil {
		return nil, err
	}
	// Not chromedp's defaults: those switch off what keeps sites apart.
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path),
		chromedp.Flag("headless", "new"),
		chromedp.NoSandbox, // which root cannot have
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"), // hosts that are not loopback to it
		// The tabs of all tests are one behind the other, yet each is in use.
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("lang", "en-GB"),
		chromedp.Env("LANGUAGE=en_GB", "TZ=UTC"),
	)
	ctx, cancel := chromedp.NewContext(allocator)
	cancelBrowser = append(cancelBrowser, cancelAllocator, cancel)
	if err := chromedp.Do(ctx); err != nil {
		return nil, fmt.Errorf("starting %s: %w", path, err)
	}
	return ctx, nil
}

func findChromium() (string, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return exec.LookPath(path)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoChromium
}

func closeBrowser() {
	for i := len(cancelBrowser) - 1; i >= 0; i-- {
		cancelBrowser[i]()
	}
}

// needBrowser skips the test where there is no browser.
func needBrowser(t *testing.T) context.Context {
	t.Helper()
	ctx, err := startBrowser()
	if errors.Is(err, errNoChromium) {
		kittest.Missing(t, "%v", err)
	}
	require.NoError(t, err)
	return ctx
}

// A tab is one page as a user has it in front of them. Its methods act as a user
// does, on what can be seen, and fail the test if that is not possible in time.
type tab struct {
	t   *testing.T
	ctx context.Context

	// inputs counts what the user had to do: clicks, texts typed and keys
	// pressed.
	inputs int

	mu         sync.Mutex
	complaints []string // exceptions, and what the browser refused to load or run
	weight     float64  // bytes over the wire for this page
	statuses   map[string]int64
	answers    map[string]int
}

// newBrowser returns the first tab of a browser of its own: no cookie, cache or
// storage is shared with another test.
func newBrowser(t *testing.T) *tab {
	t.Helper()
	return newTab(t, needBrowser(t), chromedp.WithNewBrowserContext())
}

// another opens a second tab in the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return newTab(b.t, b.ctx)
}

func newTab(t *testing.T, parent context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	b := &tab{t: t, ctx: ctx, statuses: make(map[string]int64), answers: make(map[string]int)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.describe())
		}
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		assert.Empty(t, b.complaints, "the browser complained")
	})
	require.NoError(t, chromedp.Do(ctx))
	require.NoError(t, chromedp.Listen(ctx, b.listen))
	b.call(func(ctx context.Context) error {
		// Every tab believes that it is in front.
		_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
		return err
	})
	b.resize(1280, 900, false)
	return b
}

// resize gives the page another window, or another phone.
func (b *tab) resize(width, height int64, phone bool) {
	b.t.Helper()
	pixels := 1.0
	if *screenshots != "" {
		pixels = 2 // sharp on the screens of today
	}
	b.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: height, DeviceScaleFactor: pixels, Mobile: phone,
		})
		return err
	})
}

// prefer sets what the page learns of a preference of the user.
func (b *tab) prefer(feature, value string) {
	b.t.Helper()
	b.call(func(ctx context.Context) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
		})
		return err
	})
}

// call makes a call of the DevTools protocol, with a deadline.
func (b *tab) call(f func(context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, f(ctx))
}

// listen notes what happens in the tab; it must be quick.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		complaint := e.ExceptionDetails.Text
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			complaint += " " + thrown.Description
		}
		b.complaints = append(b.complaints, complaint)
	case *log.EventEntryAdded:
		// Answers of 400 and more are network errors here, and part of the plan.
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.complaints = append(b.complaints, e.Entry.Text)
		}
	case *network.EventResponseReceived:
		if u, err := url.Parse(e.Response.URL); err == nil {
			b.statuses[u.Path] = e.Response.Status
			b.answers[u.Path]++
		}
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeDocument {
			b.weight = 0
		}
	case *network.EventLoadingFinished:
		b.weight += e.EncodedDataLength
	}
}

// status returns how the last request for a path was answered.
func (b *tab) status(path string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.statuses[path]
}

// answered returns how many requests for a path were answered so far.
func (b *tab) answered(path string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answers[path]
}

// run carries out one action, with a deadline.
func run[T any](b *tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

func (b *tab) do(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	_, err := run(b, action)
	require.NoError(b.t, err)
}

// open goes to an address, as if it was typed.
func (b *tab) open(address string) {
	b.t.Helper()
	b.do(chromedp.Navigate(address))
}

// back presses the browser's back button. The page may be gone before it says so.
func (b *tab) back() {
	b.t.Helper()
	_, err := run(b, chromedp.Evaluate[bool](`(history.back(), true)`))
	var thrown *chromedp.ExceptionError
	require.False(b.t, errors.As(err, &thrown), "%v", err)
}

// evaluate returns the value of a JavaScript expression, or of the promise that
// it is.
func evaluate[T any](b *tab, format string, args ...any) T {
	b.t.Helper()
	v, err := run(b, chromedp.Evaluate[T](expression(format, args), chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, format)
	return v
}

// expression writes args into format as JavaScript literals.
func expression(format string, args []any) string {
	literals := make([]any, len(args))
	for i, arg := range args {
		literal, err := json.Marshal(arg)
		if err != nil {
			panic(err)
		}
		literals[i] = string(literal)
	}
	return fmt.Sprintf(format, literals...)
}

// until looks at the page until a JavaScript expression has a value that counts
// as true, and returns it. One that throws fails the test at once; a page that is
// being replaced by another meanwhile is looked at again.
func until[T any](b *tab, format string, args ...any) T {
	b.t.Helper()
	source := expression(format, args)
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(interval)
	defer look.Stop()
	for {
		type found struct {
			OK    bool
			Value T
		}
		f, err := run(b, chromedp.Evaluate[found](`(() => { const value = (`+source+`); return value ? { OK: true, Value: value } : { OK: false } })()`))
		if err == nil && f.OK {
			return f.Value
		}
		var thrown *chromedp.ExceptionError
		require.False(b.t, errors.As(err, &thrown), "%v", err)
		select {
		case <-look.C:
		case <-deadline.C:
			require.FailNow(b.t, "it did not happen", "%s\nlast error: %v", source, err)
		}
	}
}

// at waits until the tab shows the page with that path, ready to be used.
func (b *tab) at(path string) {
	b.t.Helper()
	until[bool](b, `location.pathname === %s && document.readyState === "complete"`, path)
}

// sees waits until text can be read on the page.
func (b *tab) sees(text string) {
	b.t.Helper()
	until[bool](b, `document.body?.innerText.includes(%s)`, text)
}

// text returns what can be read on the page.
func (b *tab) text() string {
	b.t.Helper()
	return evaluate[string](b, `document.body.innerText`)
}

type point struct{ X, Y float64 }

// findPoint is where a user would click on the element that find returns, once
// the page is ready and nothing covers it.
const findPoint = `((find) => {
	if (document.readyState !== "complete") return null;
	const e = find();
	if (!e) return null;
	e.scrollIntoView({ block: "center", behavior: "instant" });
	const box = e.getBoundingClientRect();
	const x = box.left + box.width / 2, y = box.top + box.height / 2;
	return e.contains(document.elementFromPoint(x, y)) ? { X: x, Y: y } : null;
})`

// click clicks on the link or button of that name.
func (b *tab) click(name string) {
	b.t.Helper()
	p := until[point](b, findPoint+`(() => [...document.querySelectorAll("a[href], button:enabled")]
		.find((e) => e.checkVisibility() && e.innerText.trim() === %s))`, name)
	b.inputs++
	b.do(chromedp.MouseClickXY(p.X, p.Y))
}

// fill types into the field with that label, after a click on it if it does not
// have the focus.
func (b *tab) fill(label, text string) {
	b.t.Helper()
	const field = `[...document.querySelectorAll("label")].find((e) => e.checkVisibility() && e.innerText.trim().startsWith(%s))?.control`
	p := until[point](b, findPoint+`(() => `+field+`)`, label)
	if !evaluate[bool](b, `document.activeElement === `+field, label) {
		b.inputs++
		b.do(chromedp.MouseClickXY(p.X, p.Y))
	}
	evaluate[bool](b, `(`+field+`.select(), true)`, label) // what was there is typed over
	b.inputs++
	b.do(chromedp.KeyEvent(text))
}

// press presses one key.
func (b *tab) press(key string) {
	b.t.Helper()
	b.inputs++
	b.do(chromedp.KeyEvent(key))
}

func (b *tab) enter() { b.t.Helper(); b.press(kb.Enter) }

// cookies returns the browser's cookies for the page, by name.
func (b *tab) cookies() map[string]*network.Cookie {
	b.t.Helper()
	named := make(map[string]*network.Cookie)
	b.call(func(ctx context.Context) error {
		all, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{})
		for _, c := range all.Cookies {
			named[c.Name] = c
		}
		return err
	})
	return named
}

// describe is what to know of a tab when a test has failed.
func (b *tab) describe() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	page, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + document.body?.innerText`))
	if err != nil {
		return err.Error()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%s\nanswers: %v", strings.TrimSpace(page), b.statuses)
}
