package roles_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"rustmq.dev/rustmq/consensus/metadata"
)

// TestBackupGivesPasswordsBack loses the disk of a controller: its bucket has all metadata but
// passwords and tokens, which a backup has. Neither is in the bucket after it either.
func TestBackupGivesPasswordsBack(t *testing.T) {
	dir := t.TempDir()
	data, store, file := filepath.Join(dir, "data"), filepath.Join(dir, "bucket"), filepath.Join(dir, "backup")
	flags := []string{"--data-dir", data, "--bucket", "file://" + store, "--set", "object_storage.metadata_log_interval=50ms", "--set", "object_storage.upload_timeout=1m"}
	p := serve(t, flags...)
	admin := func(want int, stdin string, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, stdin, append([]string{"admin", "--url", "http://" + p.says.HTTP}, args...)...)
		if code != want {
			t.Fatalf("%v: exit %d, %s", args, code, stderr)
		}
		return stdout + stderr
	}
	for _, name := range []string{"alice", "bob"} {
		admin(0, "open sesame\n", "users", "create", name)
	}
	admin(0, "", "tokens", "create", "ci", "--principal", "ci")
	admin(0, "", "cluster", "backup", file)
	if said := admin(1, "", "cluster", "backup", file); !strings.Contains(said, "is there already") {
		t.Errorf("over one that is there: %s", said)
	}
	admin(0, "", "cluster", "backup", file, "--force")
	admin(0, "open sesame\n", "users", "create", "carol")
	log := func() (log struct{ Applied, Shipped uint64 }) {
		t.Helper()
		var is struct {
			Log *struct{ Applied, Shipped uint64 } `json:"metadata_log"`
		}
		is.Log = &log
		must(t, json.Unmarshal([]byte(admin(0, "", "storage", "-o", "json")), &is))
		return log
	}
	last := log().Applied
	eventually(t, "the bucket has all of it", func() bool { return log().Shipped >= last })
	info, err := os.Stat(file)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the backup is %v", info.Mode())
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())
	for _, lost := range []string{"raft", "snapshots"} {
		must(t, os.RemoveAll(filepath.Join(data, lost)))
	}
	recoverWith := func(more ...string) (int, string) {
		code, stdout, stderr := rustmq(t, "", append([]string{"admin", "cluster", "recover", "--from", "file://" + store}, more...)...)
		return code, stdout + stderr
	}
	garbage := filepath.Join(dir, "garbage")
	must(t, os.WriteFile(garbage, []byte("garbage"), 0o600))
	for _, wrong := range []string{garbage, filepath.Join(dir, "nothing")} {
		if code, said := recoverWith("--dry-run", "--backup", wrong); code != 1 || !strings.Contains(said, "--backup") {
			t.Errorf("a backup that is none: exit %d, %s", code, said)
		}
	}
	if code, said := recoverWith("--node-id", "1", "--data-dir", data, "--backup", file); code != 0 || !strings.Contains(said, "passwords and 1 API tokens are as they were") {
		t.Fatalf("recover: exit %d, %s", code, said)
	}

	p = serve(t, flags...)
	var users []struct {
		Name       string
		Mechanisms []struct{ Lost bool }
	}
	must(t, json.Unmarshal([]byte(admin(0, "", "users", "list", "-o", "json")), &users))
	for _, u := range users {
		for _, m := range u.Mechanisms {
			if m.Lost != (u.Name == "carol") {
				t.Errorf("%s: lost is %v", u.Name, m.Lost)
			}
		}
	}
	if len(users) != 3 {
		t.Errorf("%+v", users)
	}
	if said := admin(0, "", "tokens", "list"); strings.Contains(said, "lost") {
		t.Errorf("the token is lost: %s", said)
	}
	p.signal(t, syscall.SIGTERM)
	must(t, p.cmd.Wait())

	raw, err := os.ReadFile(file)
	must(t, err)
	state := metadata.NewState()
	must(t, state.Restore(raw))
	n := 0
	must(t, filepath.WalkDir(store, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		n++
		for u := range state.Image().Users() {
			for _, c := range u.Credentials {
				if bytes.Contains(content, c.StoredKey) || bytes.Contains(content, c.Salt) {
					t.Errorf("%s has the key of %s's password", path, u.Name)
				}
			}
		}
		for token := range state.Image().APITokens() {
			if bytes.Contains(content, []byte(token.Hash)) {
				t.Errorf("%s has the hash of token %s", path, token.Name)
			}
		}
		return err
	}))
	if n == 0 {
		t.Error("the bucket is empty")
	}
}
