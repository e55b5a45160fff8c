package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Links in Markdown, and the sources of pictures in HTML.
var (
	linkPattern    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	picturePattern = regexp.MustCompile(`(?:src|srcset|href)="([^"]+)"`)
	headingPattern = regexp.MustCompile(`(?m)^#{1,6} +(.+?)\s*$`)
)

// Every relative link of every page leads to a file or a heading that is there.
func TestLinks(t *testing.T) {
	pages := markdownFiles(t)
	require.Greater(t, len(pages), 15)
	for _, page := range pages {
		text := withoutCode(readFile(t, filepath.Join(root, page)))
		links := append(linkPattern.FindAllStringSubmatch(text, -1), picturePattern.FindAllStringSubmatch(text, -1)...)
		for _, link := range links {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, ":") {
				continue // of the web
			}
			to := page
			if target != "" {
				to = path.Join(path.Dir(page), target)
			}
			_, err := os.Stat(filepath.Join(root, to))
			if !assert.NoError(t, err, "%s links to %s", page, link[1]) || anchor == "" {
				continue
			}
			assert.Contains(t, anchorsOf(readFile(t, filepath.Join(root, to))), anchor, "%s links to %s", page, link[1])
		}
	}
}

func markdownFiles(t *testing.T) []string {
	t.Helper()
	var pages []string
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return fs.SkipDir
		case path.Ext(name) == ".md":
			pages = append(pages, name)
		}
		return nil
	}))
	return pages
}

// anchorsOf returns what headings are called in links, as GitHub has it: lower case,
// hyphens for blanks, no punctuation, and a number after what is there already.
func anchorsOf(page string) []string {
	var anchors []string
	times := make(map[string]int)
	for _, heading := range headingPattern.FindAllStringSubmatch(withoutCode(page), -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, heading[1])
		if n := times[anchor]; n > 0 {
			anchors = append(anchors, anchor+"-"+strconv.Itoa(n))
		} else {
			anchors = append(anchors, anchor)
		}
		times[anchor]++
	}
	return anchors
}
