package roles_test

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rustmq.dev/rustmq/roles/doctor"
)

// TestDoctor looks at this machine, for a node that could run here and for some that could not.
func TestDoctor(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = held.Close() })
	port := strconv.Itoa(held.Addr().(*net.TCPAddr).Port)
	bucket := "file://" + t.TempDir()
	for _, c := range []struct {
		name  string
		args  []string
		check string
		want  doctor.Verdict
		found string
	}{
		{"a bucket that is well", []string{"--bucket", bucket}, "bucket", doctor.OK, "all that is needed"},
		{"a bucket that is not there yet", []string{"--bucket", bucket + "/more"}, "bucket", doctor.Skip, "makes it"},
		{"a bucket that is not asked", []string{"--bucket", bucket, "--no-bucket"}, "bucket", doctor.Skip, "not asked"},
		{"memory for a bucket", []string{"--bucket", "mem://"}, "bucket", doctor.Warn, "mem://"},
		{"a store that cannot be reached", []string{"--bucket", "s3://nowhere?region=eu-central-1"}, "bucket", doctor.Fail, ""},
		{"a port that is taken", []string{"--set", "network.http_port=" + port}, "ports", doctor.Fail, port},
		{"a key that does not exist", []string{"--set", "wal.memroy=1"}, "configuration", doctor.Fail, "wal.memory"},
	} {
		args := append([]string{"doctor", "-o", "json", "--ports", "free", "--data-dir", filepath.Join(t.TempDir(), "data")}, c.args...)
		if c.check == "ports" {
			args = append(args[:3], args[5:]...)
			args = append(args, "--set", "network.kafka_port=0")
		}
		code, stdout, stderr := rustmq(t, "", args...)
		var r doctor.Report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%s: exit %d, %v: %q, %s", c.name, code, err, stdout, stderr)
		}
		if (code == 1) != (c.want == doctor.Fail) || r.OK != (code == 0) || code > 1 {
			t.Errorf("%s: exit %d, %+v, %s", c.name, code, r, stderr)
		}
		for _, check := range r.Checks {
			if check.Name == c.check && (check.Verdict != c.want || !strings.Contains(check.Found, c.found)) {
				t.Errorf("%s: %+v", c.name, check)
			}
		}
	}
	code, stdout, stderr := rustmq(t, "", "doctor", "--ports", "free", "--set", "wal.sync=never")
	if code != 1 || !strings.Contains(stdout, "why: the node does not start") || !strings.Contains(stderr, "not fit for that node: configuration") {
		t.Errorf("exit %d, %s, %s", code, stdout, stderr)
	}
	if code, _, _ := rustmq(t, "", "doctor", "--config", "/nowhere/rustmq.toml"); code != 1 {
		t.Errorf("without its file: exit %d", code)
	}
}
