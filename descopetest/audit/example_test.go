package audit_test

import (
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/descopetest/audit"
)

// A router, and a route of it that is for admins. In a test of one's own this stands inside
// synctest.Test, with a file to compare the table with and t.Error for what Check returns.
func Example() {
	project := descopetest.NewServer()
	auth, err := descopehttp.New(descopehttp.Config{
		ProjectID:  project.ProjectID(),
		BaseURL:    project.URL(),
		HTTPClient: project.Client(),
	})
	if err != nil {
		log.Fatal(err)
	}
	addUser := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "added") })
	// The mistake: the roles of a tenant's admin are asked for those of the whole.
	admin := func(_ *http.Request, s *descopehttp.Session) error {
		if !s.HasRole(s.Tenant(), "admin") {
			return descopehttp.ErrForbidden
		}
		return nil
	}
	router := http.NewServeMux()
	router.Handle("POST /admin/users", auth.Require(admin)(addUser))

	report := audit.Routes(router, project,
		audit.Route{Method: "POST", Path: "/admin/users", Body: `{"name":"bob"}`, For: audit.Role("admin")},
	)
	fmt.Print(report)
	fmt.Println(report.Check())

	// Output:
	// POST /admin/users   for role admin
	//   200  role admin; role admin in a tenant only
	//   401  nobody; refresh token as session; other project; forged key; expired; signed out elsewhere, session over
	//   403  no role; other site's POST
	//   503  Descope away, key not seen before; Descope away, forged key
	//   !    gets in: 200  role admin in a tenant only
	// descopetest/audit: POST /admin/users, for role admin: gets in: 200  role admin in a tenant only
}
