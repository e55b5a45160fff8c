package pages_test

import (
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/descopehttp/descopehttp/internal/kittest"
	"github.com/descopehttp/descopehttp/pages"
)

// Neither a view nor a key prints, by whatever way and whatever it is part of.
func TestViewsDoNotPrint(t *testing.T) {
	t.Parallel()
	const secret = "JBSWY3DPEHPK3PXP"
	key := pages.Key{URL: "otpauth://totp/a?secret=" + secret, Image: "data:image/png;base64," + secret, PNG: secret, Text: secret}
	view := pages.View{LoginID: secret, FullName: secret, Key: &key}
	for name, v := range map[string]any{
		"view": view, "pointer to a view": &view, "key": key, "pointer to a key": &key,
		"part": struct{ Part any }{view}, "list": []pages.Key{key}, "map": map[string]pages.View{"of": view},
	} {
		logs := new(kittest.LogBuffer)
		slog.New(slog.NewTextHandler(logs, nil)).Info("a value", "v", v)
		slog.New(slog.NewJSONHandler(logs, nil)).Info("a value", "v", v)
		encoded, err := json.Marshal(v)
		require.NoError(t, err, name)
		var script strings.Builder
		require.NoError(t, template.Must(template.New("").Parse(`<script>var v = {{.}}</script>{{.}}`)).Execute(&script, v), name)
		said := logs.String() + string(encoded) + script.String()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			said += fmt.Sprintf(verb, v)
		}
		assert.NotContains(t, said, secret, name)
		assert.NotContains(t, strings.ToLower(said), fmt.Sprintf("%x", secret), name)
		assert.Contains(t, string(encoded), `"[not printed]"`, name)
	}
	assert.Equal(t, "[not printed]", slog.AnyValue(view).Resolve().String(), "for handlers that encode in their own way")
	assert.Equal(t, slog.KindString, slog.AnyValue(&key).Resolve().Kind())
	log := new(kittest.LogBuffer)
	slog.New(slog.NewJSONHandler(log, nil)).Info("values", "view", view, "key", &key)
	assert.Contains(t, log.String(), `"view":"[not printed]","key":"[not printed]"`)
}
