package descopetest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/descopehttp/descopehttp/descopetest"
)

// A test of code that talks to Descope gives it the project's id, base URL and
// client. Here the code under test is a bare request.
func Example() {
	project := descopetest.NewServer()
	project.Configure(func(t *descopetest.Settings) { t.RotateRefresh = true })
	project.AddUser(descopetest.User{LoginID: "ann@example.com", Roles: []string{"admin"}})

	call := func(path, token, body string) map[string]any {
		req, _ := http.NewRequest(http.MethodPost, project.URL()+path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+project.ProjectID()+token)
		res, err := project.Client().Do(req)
		if err != nil {
			return map[string]any{"error": "no answer"}
		}
		defer res.Body.Close()
		var answer map[string]any
		json.NewDecoder(res.Body).Decode(&answer)
		return answer
	}

	// The person types the code that the authenticator app shows.
	code := project.Code("ann@example.com")
	in := call("/v1/auth/totp/verify", "", `{"loginId":"ann@example.com","code":"`+code+`"}`)
	refresh := in["refreshJwt"].(string)
	fmt.Println("signed in:", in["user"].(map[string]any)["roleNames"])

	// The network loses the answer of a refresh, but the project has carried it
	// out: the refresh token is spent.
	project.Fail("/v1/auth/refresh", descopetest.Fault{Drop: true, After: true})
	fmt.Println("first try:", call("/v1/auth/refresh", ":"+refresh, "")["error"])
	fmt.Println("second try:", call("/v1/auth/refresh", ":"+refresh, "")["errorCode"])
	fmt.Println("requests:", project.Requests("/v1/auth/refresh"))

	// Output:
	// signed in: [admin]
	// first try: no answer
	// second try: E064001
	// requests: 2
}

// One bad claim, otherwise a token of the project: what code that checks
// tokens has to refuse.
func ExampleServer_Sign() {
	project := descopetest.NewServer()
	project.AddUser(descopetest.User{LoginID: "ann@example.com"})

	claims := project.SessionClaims("ann@example.com")
	claims["iss"] = "P2someoneelse000000000000000"
	foreign := project.Sign(nil, claims)

	fmt.Println(strings.Count(foreign, "."))
	// Output: 2
}
