package descopegin

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
)

// gin would go on to the page by itself, but only after the kit's middleware had
// returned: what that does around next would then be done around nothing.
func TestMiddlewareIsAroundThePage(t *testing.T) {
	var order []string
	note := func(what string) { order = append(order, what) }
	e := gin.New()
	e.GET("/", adapt(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note("before")
			next.ServeHTTP(w, r)
			note("after")
		})
	}), func(*gin.Context) { note("page") })
	e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, []string{"before", "page", "after"}, order)
}
