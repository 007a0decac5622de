package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Rows are the routes of the API, each with what it asks for.
func Rows() []Row { return append(registered().rows, debugRows()...) }

// leaders are Holdings under a name that a struct can embed beside the method.
type leaders interface{ Holdings }

// registered are all routes that there are, without anything that they could answer from.
func registered() *routes {
	o := Options{
		Cluster: struct{ Cluster }{}, Brokers: struct{ Brokers }{}, Controllers: struct{ Controllers }{}, Groups: struct{ Groups }{}, Bucket: struct{ Bucket }{}, AuditLog: struct{ AuditLog }{}, Configuration: struct{ Configuration }{}, Transforms: struct{ Transforms }{}, Messages: struct{ Messages }{}, Holdings: struct{ leaders }{}, Tellers: struct{ Tellers }{}, Node: struct{ Node }{},
		TakeSnapshot: func(context.Context) (uint64, error) { return 0, nil }, Access: &Access{}, Log: slog.New(slog.DiscardHandler),
	}
	return registerAPI(http.NewServeMux(), o, newDoor(o, time.Now), context.Background())
}

// Document is docs/admin-authorisation.md, of these rows.
func Document(rows []Row) string {
	var b strings.Builder
	b.WriteString(`# What each call of the admin API asks for

Made from the code by ` + "`make generate`" + `: the routes of /api/v1, where one without a row does
not start, and those below /debug. ` + "`TestEveryRouteAsksForWhatItsRowSays`" + ` calls each as who has no rule, and as who has those of
its row. [security.md](security.md#the-admin-api) says who a caller is. Super users, whoever holds the token
of a node's data directory, and everybody where authorisation is off, may do all of it. A
token that is read-only is for GET alone.

| method | path | asks for | |
|---|---|---|---|
`)
	for _, r := range rows {
		needs := r.Needs
		if needs == "" {
			needs = "nothing"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s |\n", r.Method, r.Path, needs, r.Note)
	}
	return b.String()
}
