package races_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/descopehttp/descopehttp/descopetest"
)

func at(after time.Duration, do action) step { return step{After: after, Do: do} }

func asking(asks ...ask) action { return askFor(asks) }

// found are scripts that broke a rule once, made as small as they would go.
var found = []struct {
	name               string
	replicas, browsers int
	keeps              bool // the refresh token
	session            time.Duration
	reuse              bool
	wire               time.Duration
	script             []step
}{
	{name: "a tenant is selected while a replica without the store refreshes", replicas: 2, browsers: 2, wire: 20 * ms, script: []step{
		at(0, asking(ask{Kind: askRefresh, Browser: 1, Replica: onB})),
		at(sec, upstreamFault{"", descopetest.Fault{Delay: 3 * sec, Times: 3}}),
		at(584*sec, asking(ask{Kind: askPage, Replica: onA})),
		at(3*ms, storeTrouble{onA, storeRefuses, 2}),
		at(3*ms, asking(ask{Kind: askSelect, Replica: onB, In: 6 * sec})),
	}},
	{name: "a token is refreshed by two replicas, one without the store, and a tenant selected with it", replicas: 3, browsers: 1, keeps: true, session: 3 * time.Minute, wire: 20 * ms, script: []step{
		at(0, storeTrouble{onC, storeLoses, 4}),
		at(221150*ms, asking(ask{Kind: askSelect, Replica: onC, Mount: inLoad}, ask{Kind: askRefresh, Replica: onB, Old: 1})),
		at(188*sec, asking(ask{Kind: askLogout, Replica: onA, In: 6 * sec, Old: 1})),
	}},
	{name: "logged out everywhere with a second factor", replicas: 2, browsers: 1, wire: 5 * ms, script: []step{
		at(2*time.Minute, asking(ask{Kind: askPage, Replica: onA, Old: 1}, ask{Kind: askRefresh, Replica: onB})),
		at(sec, asking(ask{Kind: askStepUp, Replica: onB})),
		at(sec, asking(ask{Kind: askLogoutAll, Replica: onB})),
		at(2*sec, asking(ask{Kind: askPage, Replica: onA, Old: 2})),
	}},
	{name: "a logout that is led to another sign-in of its own", replicas: 3, browsers: 1, wire: 20 * ms, script: []step{
		at(0, asking(ask{Kind: askPage, Replica: onA, Old: 1})),
		at(70*ms, asking(ask{Kind: askStepUp, Replica: onA, Old: 1}, ask{Kind: askStepUp, Replica: onB, Old: 1}, ask{Kind: askStepUp, Replica: onC, Old: 1})),
		at(45*sec, asking(ask{Kind: askLogout, Replica: onC})),
	}},
	{name: "the newest token keeps its place when the one before it is shown", replicas: 2, browsers: 1, reuse: true, wire: 20 * ms, script: []step{
		at(0, asking(ask{Kind: askRefresh, Replica: onA, Old: 1}, ask{Kind: askRefresh, Replica: onB, Old: 1})),
		at(608*sec, asking(ask{Kind: askPage, Replica: onB}, ask{Kind: askUpdate, Replica: onB, In: 6 * sec, Old: 2})),
		at(608*sec, asking(ask{Kind: askPage, Replica: onA, Old: 3}, ask{Kind: askPage, Replica: onB})),
		at(45*sec, asking(ask{Kind: askPage, Replica: onB, Old: 2})),
	}},
	{name: "a page that has read the store when somebody logs out elsewhere", replicas: 2, browsers: 1, wire: 5 * ms, script: []step{
		at(2*time.Minute, asking(ask{Kind: askPage, Replica: onA, Old: 1})),
		at(sec, asking(ask{Kind: askPage, Replica: onB, Old: 2})),
		at(sec, storeTrouble{onB, storeSlow, 2}),
		at(ms, asking(ask{Kind: askPage, Replica: onB, Old: 3}, ask{Kind: askLogout, Replica: onA, In: 5 * ms, Old: 1})),
	}},
	{name: "a failed logout that is repeated", replicas: 1, browsers: 1, wire: 20 * ms, script: []step{
		at(0, upstreamFault{logoutPath, descopetest.Fault{Delay: 12 * sec, Times: 2}}),
		at(0, asking(ask{Kind: askLogout, Old: 1})),
		at(585*sec, asking(ask{Kind: askLogout, Old: 1})),
		at(2*time.Minute, asking(ask{Kind: askPage})),
	}},
	{name: "tenants are selected on three replicas beside a session in the store", replicas: 3, browsers: 1, keeps: true, reuse: true, wire: 400 * ms, script: []step{
		at(45*sec, asking(ask{Kind: askPage, Replica: onB, In: 6 * sec, Mount: inLoad, Old: 1}, ask{Kind: askPage, Replica: onC, In: 2 * ms, Mount: inLoad, Old: 3})),
		at(25*sec, asking(ask{Kind: askSelect, Replica: onA}, ask{Kind: askSelect, Replica: onB}, ask{Kind: askSelect, Replica: onC})),
	}},
	{name: "a question about a token that is being spent", replicas: 1, browsers: 1, reuse: true, wire: 20 * ms, script: []step{
		at(0, upstreamFault{refreshPath, descopetest.Fault{Delay: 2 * sec, After: true, Times: 1}}),
		at(0, upstreamFault{mePath, descopetest.Fault{Delay: 700 * ms, Times: 1}}),
		at(0, asking(ask{Kind: askMe}, ask{Kind: askPage, In: 25 * ms, Old: 1})),
	}},
}

func TestFound(t *testing.T) {
	for _, f := range found {
		t.Run(f.name, func(t *testing.T) {
			s := setup{
				Rotate: !f.keeps, SessionTTL: max(f.session, time.Minute), RefreshTTL: 28 * 24 * time.Hour, Reuse: f.reuse, Spent: "E061005",
				Replicas: f.replicas, Shared: f.replicas > 1, Browsers: make([]int, f.browsers), Wire: []time.Duration{f.wire},
			}
			if f.session == 0 {
				s.SessionTTL = 10 * time.Minute
			}
			w := run(t, s, f.script)
			if !assert.Empty(t, w.violations) {
				t.Log(strings.Join(w.trace, "\n"))
			}
		})
	}
}
