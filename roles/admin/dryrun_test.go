package admin

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command has --dry-run, or one that is only carried out when it is told to, or is written down here
// with why nothing that anybody has is lost by it: a new one has to be put somewhere.
func TestWhatDestroysHasADryRun(t *testing.T) {
	looks := strings.Fields(`acl/check acl/list audit/list audit/tail audit/verify brokers/describe brokers/list ca/show certs/list certs/show
		certs/verify cluster/describe cluster/health config/history config/list controllers/list etl/batteries etl/describe etl/history etl/list
		etl/test groups/describe groups/list operations/list operations/describe quotas/list storage storage/cost storage/probe tokens/list
		topics/describe topics/list users/list`)
	keeps := map[string]string{
		"acl/create": "a rule is taken away again", "users/create": "a user is deleted again", "tokens/create": "a token is taken back",
		"users/set-password": "the next password is set the same way", "topics/add-partitions": "records stay where they are",
		"brokers/drain": "undrain takes it back", "brokers/undrain": "drain takes it back",
		"controllers/add": "remove takes it out", "controllers/snapshot": "the log stays", "cluster/backup": "it writes a file that was not there",
		"etl/enable": "disable takes it back", "etl/disable": "enable takes it back", "etl/rollback": "versions stay",
		"ca/init": "it refuses a folder that has an authority", "ca/lists": "the same certificates are revoked", "certs/issue": "it refuses files that are there",
		"certs/renew": "the old certificate is valid until it ends", "storage/confirm-clock": "what is old enough to go is what topics were told; health says what was stopped",
	}
	done := map[string]string{"groups/reset-offsets": "execute", "storage/check": "repair"}
	left := map[string]bool{}
	for _, name := range slices.Concat(looks, slices.Collect(maps.Keys(keeps)), slices.Collect(maps.Keys(done))) {
		if left[name] {
			t.Errorf("%s is written down twice", name)
		}
		left[name] = true
	}
	var walk func(cmd *cobra.Command, path string)
	walk = func(cmd *cobra.Command, path string) {
		for _, sub := range cmd.Commands() {
			name := strings.TrimPrefix(path+"/"+sub.Name(), "/")
			if sub.HasSubCommands() && !sub.Runnable() {
				walk(sub, name)
				continue
			}
			walk(sub, name)
			written := left[name]
			delete(left, name)
			if flag := done[name]; flag != "" {
				if sub.Flags().Lookup(flag) == nil {
					t.Errorf("%s has no --%s, without which it changes nothing", name, flag)
				}
				continue
			}
			if dry := sub.Flags().Lookup("dry-run") != nil; dry == written {
				t.Errorf("%s has --dry-run: %t, and is written down as what needs none: %t", name, dry, written)
			}
		}
	}
	walk(Command(t.Output(), func(*cobra.Command) (Target, error) { return Target{}, nil }, nil, testETL()), "")
	for name := range left {
		t.Errorf("%s is written down, and there is no such command", name)
	}
}

// What only asks what would be changes nothing, and leaves nothing in the audit log.
func TestWhatWouldBeHeldTo(t *testing.T) {
	a := newAsking(t)
	as := []string{"Authorization", "Bearer " + a.local}
	set := func(body, want string) {
		t.Helper()
		a.want(body, http.StatusOK, a.do(http.MethodPatch, "/api/v1/quotas", body, as...), want)
	}
	set(`{"user":"alice","set":{"request_percentage":5}}`, `"request_percentage":5`)
	set(`{"user":"alice","set":{"producer_byte_rate":7},"delete":["request_percentage"],"dry_run":true}`, `"rates":{"producer_byte_rate":7}`)
	a.want("of no key", http.StatusBadRequest, a.do(http.MethodPatch, "/api/v1/quotas", `{"user":"alice","set":{"nonsense":5},"dry_run":true}`, as...))
	if w := a.do(http.MethodGet, "/api/v1/quotas", "", as...); !strings.Contains(w.Body.String(), `"request_percentage":5`) || strings.Contains(w.Body.String(), "producer_byte_rate") {
		t.Errorf("it was changed: %s", w.Body)
	}
}
