package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/roles/controller"
)

// run calls `rustmq admin …` with a context that has the url.
func run(ctx context.Context, url string, args ...string) (stdout string, err error) {
	var out bytes.Buffer
	cmd := Command(&out, func(*cobra.Command) (Target, error) { return Target{URL: url}, nil }, nil, testETL())
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
	return out.String(), err
}

// answers is a server that knows one answer, and is gone at the end of the test.
func answers(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(func() {
		s.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return s.URL
}

// TestACommandThatCallsTooOftenWaits, a few times, and not for long.
func TestACommandThatCallsTooOftenWaits(t *testing.T) {
	for _, c := range []struct {
		refusals int
		wait     string
		calls    int
		fails    bool
	}{{3, "0", 4, false}, {100, "0", mostTries, true}, {3, "60", 1, true}, {3, "", 1, true}} {
		calls := 0
		url := answers(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls > c.refusals {
				_, _ = io.WriteString(w, `{"topics":[]}`)
				return
			}
			w.Header().Set("Retry-After", c.wait)
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"detail":"too many calls"}`)
		})
		if _, err := run(t.Context(), url, "topics", "list"); (err != nil) != c.fails || calls != c.calls || err != nil && err.Error() != "too many calls" {
			t.Errorf("%+v: %v after %d calls", c, err, calls)
		}
	}
}

// parts serves a check of two parts with as many findings each, and then fails.
func parts(t *testing.T, parts, findings int) (url string, asked *[]controller.CheckRequest) {
	asked = &[]controller.CheckRequest{}
	return answers(t, func(w http.ResponseWriter, r *http.Request) {
		var in controller.CheckRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		*asked = append(*asked, in)
		n := len(*asked)
		if n > parts {
			http.Error(w, `{"detail":"the bucket was not checked to its end: 503"}`, http.StatusBadGateway)
			return
		}
		report := controller.CheckReport{Next: fmt.Sprintf("%d0/key", n)}
		report.Deleted.Objects = 3
		report.Orphans.Objects = 3
		for i := range findings {
			report.Findings = append(report.Findings, controller.Finding{Kind: controller.FoundOrphan, Key: fmt.Sprintf("orphan-%d-%d", n, i)})
		}
		if err := json.NewEncoder(w).Encode(report); err != nil {
			t.Error(err)
		}
	}), asked
}

// TestCheckThatFailsTellsWhatItFound: hours of reading, and what a repair has
// deleted, are told also when the end was not reached, and one can go on there.
func TestCheckThatFailsTellsWhatItFound(t *testing.T) {
	url, _ := parts(t, 2, 1)
	out, err := run(t.Context(), url, "storage", "check", "--repair")
	if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "--after 20/key goes on there") {
		t.Errorf("failed with %v", err)
	}
	if !strings.Contains(out, "orphan-1-0") || !strings.Contains(out, "orphan-2-0") || !strings.Contains(strings.Join(strings.Fields(out), " "), "deleted 6 0 B of them, now") {
		t.Errorf("printed %s", out)
	}
	url, asked := parts(t, 0, 0)
	if out, err := run(t.Context(), url, "storage", "check", "--after", "20/key"); err == nil || out != "" || (*asked)[0].After != "20/key" {
		t.Errorf("printed %q, %v, asked %+v", out, err, *asked)
	}
}

// TestFindingsOfACheckAreBounded holds that the flag is for the check, not for
// each of its calls.
func TestFindingsOfACheckAreBounded(t *testing.T) {
	for flag, want := range map[string]int{"0": 0, "3": 3, "5": 5, "1000": 8} {
		url, _ := parts(t, 4, 2)
		if out, _ := run(t.Context(), url, "storage", "check", "--findings", flag); strings.Count(out, "orphan-") != want {
			t.Errorf("--findings %s printed %s", flag, out)
		}
	}
}

// TestWrongAdminUsage holds that what cannot be meant is said before a server is
// asked: there is none.
func TestWrongAdminUsage(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"storage check --findings -1", "--findings -1: want 0 to 1000"},
		{"storage check --findings 5000", "--findings 5000: want 0 to 1000"},
		{"topics create t -p -1", "--partitions -1"},
		{"topics create t -r -1", "--replication-factor -1"},
		{"topics create t --config x", `--config "x": want KEY=VALUE`},
		{"topics alter t --set x", `--set "x": want KEY=VALUE`},
		{"groups reset-offsets g --all-topics --to-earliest=false", "where to?"},
		{"groups reset-offsets g --all-topics --to-latest=false", "where to?"},
		{"groups reset-offsets g --all-topics --to-earliest --to-latest", "only one of"},
		{"groups describe  --", "GROUP is empty"},
		{"quotas set --user a --default-user request_percentage=5", "--user and --default-user: give one of them"},
		{"quotas set --client-id a --default-client-id request_percentage=5", "--client-id and --default-client-id: give one of them"},
		{"quotas set --user a x", `"x": want KEY=VALUE`},
		{"acl create --principal Group:ops --resource topic.t --permissions read", "rules are for users: write User:NAME; a name that itself has a colon is written User:Group:ops"},
		{"acl list --principal user:a", "rules are for users"},
		{"acl delete --principal user:a", "rules are for users"},
		{"acl check --principal user:a --resource topic.t --permissions read", "rules are for users"},
		{"acl check --principal a --resource topic.t --permissions read,write", "ask for one at a time"},
		{"audit verify --head abc", `--head "abc": want a hash of 64 hexadecimal digits`},
		{"tokens create t --expires=-1h", "--expires -1h0m0s: want 1s to 3650d, or 0 for never"},
		{"tokens create t --expires 3651d", "--expires 3651d: want 1s to 3650d"},
		{"acl list --matching", "--matching: what is to match?"},
		{"ca init --no-passphrase --passphrase-file f", "give one of them"},
		{"certs issue a --profile broker", "give --node and --cluster"},
		{"certs issue a --profile broker --node 1 --cluster c", "give --host"},
		{"certs issue a --profile client --node 1", "give no --cluster and no --node"},
		{"certs issue a --profile tea", "want broker, controller, client or admin"},
		{"certs issue a --profile client --days 826", "want 1 to 825"},
		{"certs renew a --days 0", "--days 0: want 1 to 825"},
		{"certs revoke a --reason because", "want one of affiliation-changed"},
		{"topics list --url 127.0.0.1:9642", `--url "127.0.0.1:9642"`},
	} {
		args := strings.Fields(c.line)
		if strings.HasSuffix(c.line, "  --") {
			args = append(args[:len(args)-1], "")
		}
		if _, err := run(t.Context(), "http://127.0.0.1:1", args...); !errors.As(err, new(*UsageError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a usage error with %q", c.line, err, c.want)
		}
	}
}

// TestOneWayOfAResetIsEnough: a way that is switched off is none.
func TestOneWayOfAResetIsEnough(t *testing.T) {
	var asked broker.OffsetReset
	url := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, "{}")
	})
	if _, err := run(t.Context(), url, "groups", "reset-offsets", "g", "--all-topics", "--to-earliest=false", "--to-latest"); err != nil || asked.To != broker.ResetToLatest {
		t.Errorf("%v, asked for %q", err, asked.To)
	}
}

// TestNoAnswerIsExplained has a line for each way in which a server does not
// answer, or not as the API does.
func TestNoAnswerIsExplained(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	silent := answers(t, func(_ http.ResponseWriter, r *http.Request) {
		interrupt()
		<-r.Context().Done()
	})
	web := answers(t, http.NotFound)
	named := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "requests from pages of other sites are refused", http.StatusForbidden)
	})
	huge := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte{' '}, largestAnswer+1)) // the client leaves before the end
	})
	for _, c := range []struct{ url, line, want string }{
		{"http://127.0.0.1:1", "topics list", "is `rustmq serve` running there?"},
		{silent, "topics delete t", "interrupted before " + silent + " answered: what was asked may be done all the same; look before you ask again"},
		{silent, "topics list", "interrupted before " + silent + " answered"},
		{silent, "groups reset-offsets g --all-topics --to-latest", "interrupted before " + silent + " answered"},
		{web, "groups list", "there is no admin API for that at " + web},
		{named, "topics list", "write its address"},
		{huge, "topics list", "is larger than 64 MiB"},
	} {
		in := t.Context()
		if c.url == silent {
			in = ctx
		}
		_, err := run(in, c.url, strings.Fields(c.line)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "may be done") != strings.Contains(c.want, "may be done") {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		}
	}
	late := newCaller(answers(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	late.http.Timeout = 1 // a nanosecond
	if err := late.call(t.Context(), http.MethodPost, "/", nil, nil); err == nil || !strings.Contains(err.Error(), "did not answer in 1ns: what was asked may be done") {
		t.Error(err)
	}
}

// TestCompletionAsksTheContextOfTheCommand and no other cluster.
func TestCompletionAsksTheContextOfTheCommand(t *testing.T) {
	url := answers(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"topics":[{"name":"of-prod"}],"groups":[{"group":"of-prod"}]}`)
	})
	for _, line := range []string{"topics describe", "groups describe"} {
		var out bytes.Buffer
		root := &cobra.Command{Use: "rustmq"}
		root.PersistentFlags().String("context", "", "")
		root.AddCommand(Command(&out, func(cmd *cobra.Command) (Target, error) {
			if cmd == nil || cmd.Flag("context").Value.String() != "prod" {
				return Target{URL: "http://127.0.0.1:1"}, nil
			}
			return Target{URL: url}, nil
		}, nil, LocalETL{}))
		root.SetOut(&out)
		root.SetArgs(slices.Concat([]string{cobra.ShellCompNoDescRequestCmd, "admin", "--context", "prod"}, strings.Fields(line), []string{""}))
		if err := root.ExecuteContext(t.Context()); err != nil || !strings.HasPrefix(out.String(), "of-prod\n") {
			t.Errorf("%s offers %q, %v", line, out.String(), err)
		}
	}
}

// TestHelpNeedsNoContext: what calls nobody does not fail as nobody can be found.
func TestHelpNeedsNoContext(t *testing.T) {
	var out bytes.Buffer
	cmd := Command(&out, func(*cobra.Command) (Target, error) { return Target{}, errors.New("the context is gone") }, nil, LocalETL{})
	var ran bool
	cmd.AddCommand(&cobra.Command{Use: "serve", Run: func(*cobra.Command, []string) { ran = true }})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"serve"})
	if err := cmd.ExecuteContext(t.Context()); err != nil || !ran {
		t.Errorf("serve: %v", err)
	}
	cmd.SetArgs([]string{"topics", "list"})
	if err := cmd.ExecuteContext(t.Context()); err == nil || err.Error() != "the context is gone" {
		t.Errorf("topics list: %v", err)
	}
}

// named is groups that tell which one was asked for.
type namedGroups struct {
	Groups
	asked chan string
}

func (g namedGroups) DescribeGroup(_ context.Context, id string) (*broker.GroupDescription, error) {
	g.asked <- id
	return &broker.GroupDescription{}, nil
}

// TestEveryGroupCanBeNamed: those whose names are a way through a path too.
func TestEveryGroupCanBeNamed(t *testing.T) {
	g := namedGroups{asked: make(chan string, 1)}
	s := New(Options{Metrics: prometheus.NewRegistry(), Cluster: struct{ Cluster }{}, Groups: g})
	url := answers(t, s.http.Handler.ServeHTTP)
	for _, id := range []string{"g", ".", "..", "...", "a/b", "a/../b", "%2E", "a b", "?", "ü"} {
		_, err := run(t.Context(), url, "groups", "describe", "--", id)
		select {
		case got := <-g.asked:
			if got != id || err != nil {
				t.Errorf("asked for %q, not %q: %v", got, id, err)
			}
		default:
			t.Errorf("%q was not asked for: %v", id, err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A topic that is there is not said to have been created, nor to be as it was asked for.
func TestTopicThatExistsIsLeftAsItIs(t *testing.T) {
	url := answers(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"detail":"topic t already exists"}`)
			return
		}
		fmt.Fprint(w, `{"name":"t","partitions":1,"replication_factor":1,"configs":{"retention.ms":"7","max.message.bytes":"9"}}`)
	})
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", nil},
		{"--dry-run", nil},
		{"-p 1 -r 1 -c retention.ms=7", nil},
		{"-p 5 -r 3 -c retention.ms=1 -c cleanup.policy=compact", []string{"1 partition, not 5", "replication factor is 1, not 3", `retention.ms is "7", not "1"`, "cleanup.policy is not set"}},
	} {
		out, err := run(t.Context(), url, append([]string{"topics", "create", "t", "--if-not-exists"}, strings.Fields(c.args)...)...)
		if err != nil || !strings.Contains(out, "topic t exists already: 1 partition") || strings.Contains(out, "created") {
			t.Errorf("%s: %v, %s", c.args, err, out)
		}
		if notes := strings.Count(out, "note:"); notes != len(c.want) {
			t.Errorf("%s: %d notes in %s", c.args, notes, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in %s", c.args, want, out)
			}
		}
	}
	if _, err := run(t.Context(), url, "topics", "create", "t"); err == nil {
		t.Error("without the flag it is no error")
	}
}
