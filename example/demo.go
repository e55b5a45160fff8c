package main

import (
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/descopetest"
	"github.com/descopehttp/descopehttp/pages"
)

// addDemo puts a project in memory in the place of Descope. Its panel tells anybody the code of anybody.
func addDemo(mux *http.ServeMux, cfg *descopehttp.Config, o *pages.Options, life time.Duration) {
	project := descopetest.NewServer()
	project.Configure(func(s *descopetest.Settings) { s.SessionTTL, s.StepUpTTL, s.RotateRefresh = life, time.Minute, true })
	project.AddUser(descopetest.User{LoginID: "ada@example.com", Name: "Ada Lovelace", Roles: []string{"admin"}})
	cfg.ProjectID, cfg.BaseURL, cfg.HTTPClient = project.ProjectID(), project.URL(), project.Client()
	cfg.Leeway = -1               // one clock: a session ends on the second
	if cfg.Cookies.InsecureHTTP { // on loopback: from elsewhere, anybody can write a Host of this machine
		o.Templates, _ = fs.Sub(files, "demo")
		mux.Handle("/demo/", http.NewCrossOriginProtection().Handler(panel(project)))
	}
}

// panel answers demo.js at the names of this machine. Others may be led here (DNS rebinding).
func panel(project *descopetest.Server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, loginID, now := (&url.URL{Host: r.Host}).Hostname(), r.FormValue("loginId"), time.Now().Unix()
		switch action := r.Method + " " + r.URL.Path; {
		case host != "localhost" && !net.ParseIP(host).IsLoopback():
			http.Error(w, "The demo is for this machine's own browser.", http.StatusMisdirectedRequest)
		case action == "GET /demo/requests":
			json.NewEncoder(w).Encode(project.RequestCounts())
		case action == "GET /demo/code" && project.HasUser(loginID):
			json.NewEncoder(w).Encode(map[string]any{"code": project.Code(loginID), "secondsLeft": 30 - now%30})
		case action == "POST /demo/expire" && project.HasUser(loginID): // with a sign-in of which the kit knows no good session
			claims := project.SessionClaims(loginID)
			claims["iat"], claims["exp"] = now-60, now-1
			for name, token := range map[string]string{"DS": project.Sign(nil, claims), "DSR": project.SignIn(loginID).Refresh} {
				http.SetCookie(w, &http.Cookie{Name: name, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			}
		case action == "POST /demo/away": // for 20 s
			project.Fail("", descopetest.Fault{Times: -1, Status: http.StatusServiceUnavailable})
			time.AfterFunc(20*time.Second, project.Reset)
		case action == "POST /demo/rotate":
			project.RotateKeys()
		case action == "POST /demo/elsewhere" && project.HasUser(loginID):
			project.LogOut(loginID)
		default: // demo.js and demo.css
			http.FileServerFS(files).ServeHTTP(w, r)
		}
	})
}
