package scale

import (
	"time"

	"github.com/descopehttp/descopehttp"
)

// A Group is a set of scenarios that are to be compared.
type Group string

// What is compared, and what is promised: each of the last three has one figure.
const (
	Sizes        Group = "sizes"
	Rush         Group = "rush"
	Outages      Group = "outages"
	Replicas     Group = "replicas"
	Peers        Group = "peers"
	TwoHundred   Group = "200 renewals a second"
	LongOutage   Group = "outage of 30 minutes"
	UnseenOutage Group = "outage of 5 minutes"
)

// AtBackend are limits, in place of the defaults, of one replica that renews as much as an
// address may that Descope takes for a backend's: within ten seconds each class makes ten
// seconds' calls and, at once, three seconds' more; 13 × 76 is 988.
var AtBackend = descopehttp.Limits{SessionCalls: 70, AccountCalls: 3, SecondFactorCalls: 1, SignInCalls: 2}

// Scenarios returns all of them. With most, no site has more users than that; the
// figures mean nothing then.
func Scenarios(most int) []Scenario {
	list := sizes()
	list = append(list, rushes()...)
	list = append(list, outages()...)
	list = append(list, replicas()...)
	list = append(list, peers()...)
	list = append(list, promises()...)
	for i := range list {
		if most > 0 {
			list[i].Users = min(list[i].Users, most)
		}
	}
	return list
}

// sizes are sites in an ordinary hour: the users sign in within the life of a session,
// and each renews once.
func sizes() (list []Scenario) {
	hour := Scenario{Group: Sizes, Every: 2 * time.Minute, Come: Session, Lasts: 2*Session + time.Minute, Replicas: 1, Weigh: true}
	for _, users := range []int{3_000, 10_000} {
		hour.Users, hour.Limits.SessionCalls = users, max(users/200, 45)
		list = append(list, hour)
	}
	hour.Users, hour.Rotation = 10_000, true
	return append(list, hour)
}

// rushes are mornings on which all come within two minutes, with sessions of yesterday.
func rushes() []Scenario {
	usual := Scenario{
		Group: Rush, Users: 10_000, Every: 30 * time.Second, Come: 2 * time.Minute, Slept: true, Lasts: 14 * time.Minute,
		Replicas: 1, Grant: Backend,
	}
	raised, rotating, less := usual, usual, usual
	raised.Limits = AtBackend
	rotating.Rotation = true
	less.Grant, less.Users = Plain, 500
	return []Scenario{usual, raised, rotating, less}
}

// outages are those of 1, 5 and 30 minutes, at what Descope grants a backend and at what
// it grants plain calls, with the default limits.
func outages() (list []Scenario) {
	for _, grant := range []Grant{Backend, Plain} {
		for _, length := range []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute} {
			for _, rotation := range []bool{false, true} {
				if rotation && length != 5*time.Minute {
					continue
				}
				s := outage(length)
				s.Group, s.Users, s.Every, s.Rotation, s.Grant, s.Limits = Outages, 2_000, time.Minute, rotation, grant, descopehttp.Limits{}
				if grant == Plain {
					s.Users = 500
				}
				list = append(list, s)
			}
		}
	}
	return list
}

// outage is one that a site meets when all its users have been there for a while.
func outage(length time.Duration) Scenario {
	begins := 3 * Session // by then all that is due has been seen, and what is early has begun
	return Scenario{
		Users: 10_000, Every: 10 * time.Second, Come: Session, Lasts: begins + length + 2*Session,
		Replicas: 1, Limits: AtBackend, Grant: Backend, Outage: Outage{At: begins, For: length},
	}
}

// replicas are sites of several replicas, behind a load balancer that sends each request
// to another one.
func replicas() (list []Scenario) {
	site := Scenario{Group: Replicas, Users: 1_000, Every: time.Minute, Come: Session, Lasts: 2*Session + time.Minute, Grant: Backend, Shared: true, Rotation: true}
	for n := 1; n <= 32; n *= 2 {
		site.Replicas = n
		list = append(list, site)
	}
	site.Replicas, site.Rotation = 8, false
	alone := site
	alone.Shared = false
	return append(list, site, alone)
}

// peers are the kit and a middleware that refreshes with every request, when each page
// makes four requests at once and Descope is away for five minutes.
func peers() (list []Scenario) {
	for _, rotation := range []bool{false, true} {
		for _, peer := range []bool{false, true} {
			s := outage(5 * time.Minute)
			s.Group, s.Users, s.Every, s.AtOnce, s.Rotation, s.Peer = Peers, 1_000, time.Minute, 4, rotation, peer
			list = append(list, s)
		}
	}
	return list
}

func promises() []Scenario {
	busy := Scenario{
		Group: TwoHundred, Users: 120_000, Every: 2 * time.Minute, Come: Session, Lasts: 2*Session + time.Minute,
		Replicas: 1, Limits: descopehttp.Limits{SessionCalls: 200}, Grant: Grant{Calls: 13 * 200, Per: 10 * time.Second}, Weigh: true,
	}
	long, unseen := outage(30*time.Minute), outage(5*time.Minute)
	long.Group, unseen.Group = LongOutage, UnseenOutage
	long.Retry = time.Minute
	seen := unseen
	seen.Limits.EarlyRenewal = descopehttp.EarlyNever
	return []Scenario{busy, long, unseen, seen}
}
