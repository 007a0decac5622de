package configs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rustmq.dev/rustmq/configs"
)

func load(t *testing.T, file string, s configs.Sources) (*configs.Config, error) {
	t.Helper()
	if file != "" {
		s.File = filepath.Join(t.TempDir(), "rustmq.toml")
		if err := os.WriteFile(s.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return configs.Load(s)
}

func TestLaterSourcesWin(t *testing.T) {
	file := "[wal]\nmemory = \"32MiB\"\ncapacity = \"2GiB\"\n[network]\nkafka_port = 1000\nmax_connections = 7\n"
	c, err := load(t, file, configs.Sources{
		Environ: []string{"RUSTMQ_WAL__CAPACITY=3GiB", "RUSTMQ_NETWORK__KAFKA_PORT=2000", "RUSTMQ_NETWORK__QUIC__MAX_STREAMS=5", "PATH=/bin"},
		Set:     []string{"network.kafka_port=3000", "broker.id=9"},
		Flags:   []configs.Setting{{Key: "broker.id", Value: "10", Origin: "--node-id"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.WAL.Memory != 32<<20 || c.WAL.Capacity != 3<<30 || c.Network.KafkaPort != 3000 || c.Broker.ID != 10 || c.Network.QUIC.MaxStreams != 5 || c.Network.MaxConnections != 7 {
		t.Errorf("merged: %+v", c)
	}
	for key, want := range map[string]string{
		"wal.memory": "rustmq.toml:2", "wal.capacity": "environment RUSTMQ_WAL__CAPACITY", "network.kafka_port": "--set",
		"broker.id": "--node-id", "wal.sync": "default", "network.max_connections": "rustmq.toml:6",
	} {
		if got := string(c.Origin(key)); !strings.HasSuffix(got, want) {
			t.Errorf("%s came from %q, want %q", key, got, want)
		}
	}
}

func TestAllProblemsAreReportedWithTheirPlace(t *testing.T) {
	file := `[wal]
memroy = "32MiB"
capacity = "many"
sync = "sometimes"
[controller.raft]
heartbeat = "1s"
[nowhere]
x = [1, 2]
`
	_, err := load(t, file, configs.Sources{Set: []string{"broker.id=zero", "oops"}})
	var all *configs.Error
	if !errors.As(err, &all) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{
		"rustmq.toml:2: wal.memroy: there is no such key; did you mean wal.memory?",
		`rustmq.toml:3: wal.capacity: "many" is not a size`,
		`rustmq.toml:4: wal.sync: "sometimes" is not one of always, interval`,
		"controller.raft.election_timeout: 500ms is less than five times",
		"rustmq.toml:8: nowhere.x: there is no such key",
		`--set: broker.id: "zero" is not a whole number`,
		"--set: oops: want section.key=value",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s\nin\n%v", want, err)
		}
	}
}

func TestSyntaxErrorNamesItsLine(t *testing.T) {
	_, err := load(t, "[wal]\nmemory = = 3\n", configs.Sources{})
	if err == nil || !strings.Contains(err.Error(), "rustmq.toml:2:") {
		t.Fatalf("%v", err)
	}
}

func TestDefaultsAreValidAndReadBack(t *testing.T) {
	c, err := load(t, configs.Default().TOML(), configs.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range configs.Keys() {
		if c.Value(k) != configs.Default().Value(k) {
			t.Errorf("%s = %s was written, %s read back", k.Name, configs.Default().Value(k), c.Value(k))
		}
		if k.Doc == "" {
			t.Errorf("%s has no documentation", k.Name)
		}
	}
}

func TestShippedFilesAreValid(t *testing.T) {
	names, err := fs.Glob(configs.Examples, "*.toml")
	if err != nil || len(names) != 4 {
		t.Fatalf("shipped files: %v, %v", names, err)
	}
	for _, name := range names {
		if _, err := configs.Load(configs.Sources{File: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(configs.Default().TOML())
	f.Add("[wal]\nmemory = 3\n[[a]]\nb.c = {d = 1}\n'x y'.z = 2")
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := configs.Load(configs.Sources{File: name}); (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
	})
}

func FuzzSet(f *testing.F) {
	for _, k := range configs.Keys() {
		f.Add(k.Name + "=" + configs.Default().Value(k))
	}
	f.Fuzz(func(t *testing.T, pair string) {
		c, err := configs.Load(configs.Sources{Set: []string{pair}})
		if err != nil {
			return
		}
		// What was taken reads back to the same values.
		name := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(name, []byte(c.TOML()), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := configs.Load(configs.Sources{File: name})
		if err != nil {
			t.Fatalf("%q was taken, but its file is not: %v", pair, err)
		}
		for _, k := range configs.Keys() {
			if c.Value(k) != again.Value(k) {
				t.Fatalf("%s: %s became %s", k.Name, c.Value(k), again.Value(k))
			}
		}
	})
}
