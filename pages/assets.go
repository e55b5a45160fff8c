package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"time"
)

//go:embed static templates
var files embed.FS

// assets are the files that the pages load.
type assets struct {
	files   map[string]asset
	version string
}

type asset struct {
	content     []byte
	contentType string
	etag        string
}

func newAssets(css string) assets {
	a := assets{files: make(map[string]asset)}
	for name, contentType := range map[string]string{
		"app.js":    "text/javascript; charset=utf-8",
		"icon.svg":  "image/svg+xml",
		"style.css": "text/css; charset=utf-8",
	} {
		content, err := files.ReadFile("static/" + name)
		if err != nil {
			panic(err) // it is part of the program
		}
		if name == "style.css" && css != "" {
			content = append(append(content, '\n'), css...)
		}
		a.files[name] = asset{content, contentType, `"` + shortHash(content) + `"`}
	}
	a.version = shortHash(append(bytes.Clone(a.files["app.js"].content), a.files["style.css"].content...))
	return a
}

func shortHash(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:6])
}

// serve reports whether name is one of the files.
func (a *assets) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	file, ok := a.files[name]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", file.contentType)
	h.Set("ETag", file.etag)
	h.Set("Cache-Control", "no-cache") // keep it, but ask
	if r.URL.Query().Get("v") == a.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(file.content))
	return true
}
