package main

import (
	"crypto"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/descopehttp/descopehttp/descopetest"
)

// minSessionTTL is the shortest session. Tokens carry whole seconds, so that one
// of a second's life could be born expired.
const minSessionTTL = 2 * time.Second

// The project keeps no more than this, a few megabytes as a rule and less than a
// gigabyte at worst. What is beyond it is refused with an error that says so.
const (
	maxUsers  = 10_000
	maxTokens = 10_000 // refresh tokens that are still good
)

// settings are what the flags say.
type settings struct {
	addr       *net.TCPAddr
	projectID  string // "" is descopetest's own
	sessionTTL time.Duration
	refreshTTL time.Duration
	stepUpTTL  time.Duration
	inactivity time.Duration
	attempts   int
	codeReuse  bool
	host       string // by which other containers know this one
	rotate     bool
	cookies    bool
	alg        string
	key        crypto.Signer // nil without -key
	kid        string
	users      []descopetest.User
}

const usage = `Usage of descope-emulator:

A Descope project in memory, behind a port. It is for development only: it has
no real users, and it tells anybody their codes.

`

const controlUsage = `
Tests drive it through paths of its own. They answer JSON, on a loopback Host,
and never to a page of another origin:

  GET  /_emulator/requests         {path: count} since the start or the last reset
  POST /_emulator/reset            forget counts and faults; users and tokens stay
  POST /_emulator/rotate-keys      {"revoke": bool}
  POST /_emulator/fail             {"path", "status", "times", "delayMs", "body", "drop"}:
                                   the next requests to path go wrong; path "" is any,
                                   times less than 0 is until the next reset
  GET  /_emulator/code?loginId=…   the code that is valid now
  POST /_emulator/users            {"loginId", "name", "email", "phone", "roles", "permissions",
                                   "tenants": {id: {"name", "roles", "permissions"}},
                                   "tenant", "customClaims"}
`

// parseSettings reads the flags.
func parseSettings(args []string, stderr io.Writer) (settings, error) {
	var set settings
	fs := flag.NewFlagSet("descope-emulator", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // run reports the error; the usage follows only -h
	addr := fs.String("addr", "127.0.0.1:8090", "`host:port` to listen on; port 0 takes a free one")
	insecure := fs.Bool("insecure-listen", false, "allow an -addr that other machines can reach")
	fs.StringVar(&set.host, "host", "", "`name` by which others reach the emulator, such as that of its container; requests for it may drive it too")
	fs.StringVar(&set.projectID, "project", "", "`id` of the project (default one that is nobody's)")
	fs.DurationVar(&set.sessionTTL, "session-ttl", 10*time.Minute, "life of a session token")
	fs.DurationVar(&set.refreshTTL, "refresh-ttl", 4*7*24*time.Hour, "life of a refresh token")
	fs.DurationVar(&set.stepUpTTL, "step-up-ttl", 10*time.Minute, "life of a session token that came of a step-up")
	fs.DurationVar(&set.inactivity, "inactivity", 0, "`time` without a refresh that ends a sign-in; 0 is off")
	fs.IntVar(&set.attempts, "max-attempts", 0, "`number` of wrong codes in a row that lock a user; 0 is no limit")
	fs.BoolVar(&set.codeReuse, "code-reuse", false, "take a code more than once, so that nobody waits for the next between two sign-ins")
	fs.BoolVar(&set.rotate, "rotate", false, "replace the refresh token with every refresh")
	response := fs.String("token-response", "body", "where tokens are answered, `body|cookies`")
	fs.StringVar(&set.alg, "alg", "RS256", "algorithm of the project's keys, `RS256|ES256`")
	keyFile := fs.String("key", "", "`file` with a PEM private key to sign with, RSA or EC P-256, so that tests can sign tokens themselves")
	fs.StringVar(&set.kid, "kid", "", "`id` under which the key set lists -key")
	fs.Func("user", "`loginId[,role,…]` of a user with a verified authenticator; may be repeated", func(value string) error {
		user, err := parseUser(value)
		set.users = append(set.users, user)
		return err
	})
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		io.WriteString(stderr, usage)
		fs.SetOutput(stderr)
		fs.PrintDefaults()
		io.WriteString(stderr, controlUsage)
		return settings{}, err
	case err != nil:
		return settings{}, err
	case fs.NArg() > 0:
		return settings{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	set.cookies = *response == "cookies"
	if !set.cookies && *response != "body" {
		return settings{}, fmt.Errorf("-token-response %q is neither body nor cookies", *response)
	}
	if err := set.checkLives(); err != nil {
		return settings{}, err
	}
	if err := set.readKey(*keyFile, isSet(fs, "alg")); err != nil {
		return settings{}, err
	}
	return set, set.resolve(*addr, *insecure)
}

func isSet(fs *flag.FlagSet, name string) (set bool) {
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// parseUser reads "loginId[,role,…]".
func parseUser(value string) (descopetest.User, error) {
	parts := strings.Split(value, ",")
	if slices.Contains(parts, "") {
		return descopetest.User{}, errors.New("must be loginId[,role,…], none of them empty")
	}
	return descopetest.User{LoginID: parts[0], Roles: parts[1:]}, nil
}

func (s *settings) checkLives() error {
	switch {
	case s.sessionTTL < minSessionTTL || s.sessionTTL%time.Second != 0:
		return fmt.Errorf("-session-ttl must be whole seconds, %v or more", minSessionTTL)
	case s.refreshTTL < s.sessionTTL || s.refreshTTL%time.Second != 0:
		return errors.New("-refresh-ttl must be whole seconds, and no less than -session-ttl")
	case s.stepUpTTL < minSessionTTL || s.stepUpTTL%time.Second != 0:
		return fmt.Errorf("-step-up-ttl must be whole seconds, %v or more", minSessionTTL)
	case s.inactivity < 0 || s.inactivity%time.Second != 0:
		return errors.New("-inactivity must be whole seconds, and not negative")
	case strings.ContainsAny(s.host, ":/[]"):
		return errors.New("-host must be a name without a port")
	}
	return nil
}

// readKey reads -key, which decides on the algorithm unless -alg has done so.
func (s *settings) readKey(file string, algGiven bool) error {
	if (file == "") != (s.kid == "") {
		return errors.New("-key and -kid need each other")
	}
	if file == "" {
		return nil
	}
	key, alg, err := readKeyFile(file)
	if err != nil {
		return fmt.Errorf("-key: %w", err)
	}
	if algGiven && alg != s.alg {
		return fmt.Errorf("-key signs %s, not the %s of -alg", alg, s.alg)
	}
	s.key, s.alg = key, alg
	return nil
}

// resolve finds the address to listen on. It is checked in the form in which it
// is listened on, so that no name can stand for another address in between.
func (s *settings) resolve(addr string, insecure bool) error {
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	if !insecure && !resolved.IP.IsLoopback() {
		return fmt.Errorf("-addr %s is not a loopback address: other machines could sign in as anybody; if they should, add -insecure-listen", addr)
	}
	s.addr = resolved
	return nil
}

// newProject returns the project that the flags describe.
func (s *settings) newProject() (*descopetest.Server, error) {
	project := descopetest.NewServer()
	err := misuse(func() {
		project.Configure(func(t *descopetest.Settings) {
			if s.projectID != "" {
				t.ProjectID = s.projectID
			}
			t.SessionTTL, t.RefreshTTL = s.sessionTTL, s.refreshTTL
			t.RotateRefresh = s.rotate
			t.TokensInCookies = s.cookies
			t.Alg = s.alg
			t.MaxUsers, t.MaxTokens = maxUsers, maxTokens
			t.StepUpTTL, t.InactivityTimeout = s.stepUpTTL, s.inactivity
			t.MaxAttempts, t.AllowCodeReuse = s.attempts, s.codeReuse
			// Pages that talk to the project without the kit in between must not
			// learn that they may change anybody's authenticator.
			t.UpdateChecksLoginID = true
		})
		if s.key != nil {
			project.AddKey(s.kid, s.key)
		}
		for _, user := range s.users {
			project.AddUser(user)
		}
	})
	return project, err
}

// misuse runs f and returns, as an error, the panic with which descopetest
// answers misuse. What is the mistake of a test there is here that of whoever
// typed a flag or sent a request.
func misuse(f func()) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		text, _ := p.(string)
		text, ok := strings.CutPrefix(text, "descopetest: ")
		if !ok {
			panic(p)
		}
		err = errors.New(text)
	}()
	f()
	return nil
}
