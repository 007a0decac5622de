// Package test renders the Helm chart and says what is wrong with it: by Helm's own linter, by
// the types of Kubernetes, by rustmq's configuration and certificates, and by processes that
// are run as the pods say (cluster_test.go). It is a module of its own, and none of the
// workspace, so that what Helm needs stays out of rustmq's build:
//
//	make build && cd deploy/helm/test && GOWORK=off go test ./...
//
// With -update it writes what is made of other files: keys of rustmq into
// values.schema.json, and the table of values into README.md.
package test
