package descoperedis_test

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/descopehttp/descopehttp"
	"github.com/descopehttp/descopehttp/stores/descoperedis"
)

func Example() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "127.0.0.1:6379",
		ContextTimeoutEnabled: true, // give a connection up when the kit does
	})
	defer client.Close()

	a, err := descopehttp.New(descopehttp.Config{
		ProjectID:    "P2exampleexampleexampleexamp",
		RefreshStore: descoperedis.NewRefreshStore(client, ""),
	})
	fmt.Println(a, err)
	// Output: descopehttp.Auth(P2exampleexampleexampleexamp) <nil>
}
