package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// summaries say what calls do, by method and path below /api/v1. What is not here is named by
// its method and its path.
func summaries() map[string]string {
	return map[string]string{
		"GET /topics": "List topics", "POST /topics": "Create a topic", "GET /topics/{name}": "Describe a topic", "PATCH /topics/{name}": "Alter the configuration of a topic",
		"DELETE /topics/{name}": "Delete a topic", "POST /topics/{name}/partitions": "Add partitions to a topic", "GET /topics/{name}/partitions": "List the partitions of a topic",
		"GET /topics/{name}/records": "Look at some records of a partition", "GET /topics/{name}/tail": "Follow what comes into a topic", "POST /topics/{name}/records": "Send a record", "POST /topics/{name}/delete-records": "Delete records up to an offset",
		"GET /topics/{name}/configs": "Show the configuration of a topic, and where each value comes from", "GET /groups/{group}/lag": "Show how far a group was behind in the last hour",
		"GET /quotas": "List quotas", "PATCH /quotas": "Set or delete quotas of an entity",
		"GET /acls": "List access rules", "POST /acls": "Create access rules", "DELETE /acls": "Delete access rules", "POST /acls/check": "Explain who may do what, and why",
		"GET /users": "List users", "POST /users": "Create a user", "DELETE /users/{name}": "Delete a user", "PUT /users/{name}/password": "Give a user another password",
		"GET /tokens": "List API tokens", "POST /tokens": "Create an API token", "DELETE /tokens/{name}": "Revoke an API token",
		"POST /session": "Log in, as a page in a browser does", "GET /session": "Tell who a session is of", "DELETE /session": "Log out", "GET /events": "Follow how the cluster stands", "GET /history": "Show an hour of the cluster", "POST /session/may": "Tell which calls the caller may make",
		"GET /brokers": "List brokers", "GET /brokers/{id}": "Describe a broker", "DELETE /brokers/{id}": "Take a broker out of the cluster", "GET /brokers/{id}/replicas": "List the replicas of a broker",
		"POST /brokers/{id}/drain": "Have others lead what a broker leads, or end that", "GET /brokers/{id}/decommission": "Plan a decommission of a broker", "POST /brokers/{id}/decommission": "Move all replicas off a broker",
		"GET /nodes": "Tell how the processes of the brokers stand", "GET /etl/pipelines": "List what records of each topic pass", "GET /etl/nodes": "Tell how modules are on all brokers",
		"POST /cluster/rebalance": "Spread replicas evenly", "GET /operations": "List long work that is under way", "GET /operations/{id}": "Tell how far long work is",
		"GET /controllers": "List controllers", "POST /controllers": "Give a controller a vote", "DELETE /controllers/{id}": "Take a controller out of the group", "POST /snapshots": "Take a snapshot of the metadata",
		"GET /cluster": "Describe the cluster", "GET /cluster/health": "Tell what of the cluster needs a person",
		"GET /config": "Show what is set on running nodes, and what the process that answers obeys", "GET /config/history": "Show who changed what on running nodes, and when", "PATCH /config": "Change the configuration of running nodes",
		"GET /node/certificates": "Show the certificates of the process that answers", "GET /certificates": "Show the certificates of all brokers",
		"GET /audit": "Read the audit log", "GET /audit/verify": "Verify the audit log", "GET /audit/stream": "Follow the audit log",
		"GET /groups": "List groups", "GET /groups/{group}": "Describe a group", "DELETE /groups/{group}": "Delete a group", "DELETE /groups/{group}/offsets": "Delete what a group has committed of a topic", "POST /groups/{group}/reset-offsets": "Plan or do a reset of offsets",
		"GET /etl/modules": "List modules", "GET /etl/modules/{name}": "Describe a module", "GET /etl/modules/{name}/history": "Show what was done with a module", "GET /etl/batteries": "List the modules that come with rustmq",
		"POST /etl/uploads": "Upload a module", "POST /etl/modules/{name}/versions": "Deploy a version of a module", "POST /etl/modules/{name}/enable": "Enable a version of a module",
		"POST /etl/modules/{name}/disable": "Disable a module", "POST /etl/modules/{name}/rollback": "Go back to another version of a module", "DELETE /etl/modules/{name}": "Delete a module or a version",
		"POST /etl/modules/{name}/test": "Try a module with records",
		"GET /storage":                  "Tell how it stands with the bucket", "GET /storage/cost": "Tell what the bucket costs", "POST /storage/probe": "Try each request of the bucket", "POST /storage/check": "Compare the bucket with the catalogue",
		"POST /storage/confirm-clock": "Confirm the clock of the controller",
	}
}

// apiGroups are the parts of the API, by the beginning of the path below /api/v1.
var apiGroups = [...]struct{ path, name string }{
	{"/topics", "Topics"}, {"/groups", "Groups"}, {"/cluster", "Cluster"}, {"/operations", "Cluster"}, {"/events", "Cluster"}, {"/history", "Cluster"}, {"/brokers", "Brokers"}, {"/nodes", "Brokers"}, {"/controllers", "Controllers"}, {"/snapshots", "Controllers"},
	{"/acls", "Access"}, {"/users", "Access"}, {"/tokens", "Access"}, {"/session", "Access"}, {"/quotas", "Quotas"}, {"/audit", "Audit"}, {"/etl", "Transforms"}, {"/storage", "Storage"}, {"/config", "Configuration"}, {"/node", "Node"}, {"/certificates", "Node"}, {"/debug", "Diagnostics"}, {"", "More"},
}

const apiPath = "/api/v1"

// describe writes into the document of the API what it is, how callers say who they are, and
// what each call does and asks for.
func (s *routes) describe() {
	doc, known, used := s.OpenAPI(), summaries(), map[string]bool{}
	doc.Info.Description = "What `rustmq admin` does, for programs. Any process with the role controller or admin answers any call. Problems are those of RFC 9457. Answers have the headers RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset; 429 has Retry-After."
	doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":    {Type: "http", Scheme: "bearer", Description: "an API token, the token of a node's data directory, or one of the identity provider"},
		"password": {Type: "http", Scheme: "basic", Description: "a user and its password"},
		"session":  {Type: "apiKey", In: "cookie", Name: secureSessionCookie, Description: "of a page in a browser; changes have its token in " + csrfHeader + " beside it"},
	}
	if s.asks {
		doc.Security = []map[string][]string{{"token": {}}, {"password": {}}, {"session": {}}}
	}
	for _, row := range s.rows {
		op := operationIn(doc, row)
		short := strings.TrimPrefix(row.Path, apiPath)
		op.Summary = known[row.Method+" "+short]
		if op.Summary == "" {
			op.Summary = row.Method + " " + short
		}
		needs := row.Needs
		if needs == "" {
			needs = "nothing"
		}
		op.Description = "Asks for: " + needs + "."
		if row.Note != "" {
			op.Description += " " + strings.ToUpper(row.Note[:1]) + row.Note[1:] + "."
		}
		for _, g := range apiGroups {
			if strings.HasPrefix(short, g.path) {
				op.Tags, used[g.name] = []string{g.name}, true
				break
			}
		}
		if s.asks && row.Path == sessionPath && row.Method == http.MethodPost {
			op.Security = []map[string][]string{}
		}
	}
	for _, g := range apiGroups {
		if used[g.name] {
			doc.Tags, used[g.name] = append(doc.Tags, &huma.Tag{Name: g.name}), false
		}
	}
}

// operationIn is the operation of a row.
func operationIn(doc *huma.OpenAPI, row Row) *huma.Operation {
	item := doc.Paths[row.Path]
	op := map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[row.Method]
	if op == nil {
		panic(fmt.Sprintf("admin: %s %s is not in the document", row.Method, row.Path))
	}
	return op
}
