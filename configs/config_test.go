package configs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// TestNothingInAFileIsOverlooked holds what a reader by path alone would take
// for another key, or for none.
func TestNothingInAFileIsOverlooked(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"[walll]", ":1: walll: there is no such section"},
		{"[wal]\n[nowhere]\n[network]", ":2: nowhere: there is no such section"},
		{"'wal.memory' = '64MiB'", `:1: "wal.memory": there is no such key; did you mean wal.memory?`},
		{"wal = {memroy = '64MiB'}", ":1: wal.memroy: there is no such key; did you mean wal.memory?"},
		{"wal = 3", ":1: wal: a section, not a key"},
		{"broker.rack = 2020-01-01", ":1: broker.rack: a date or time"},
		{"broker.rack = ['a']", ":1: broker.rack: an array"},
		{"broker.rack = {a = 1}", ":1: broker.rack.a: there is no such key"},
		{"broker.rack = {}", ":1: broker.rack: a table"},
		{"broker.rack = \"a\\u0000b\"", ":1: broker.rack: \"a\\x00b\" is not plain text"},
		{"network.kafka_port = 1.0", ":1: network.kafka_port: 1 is a fraction"},
		{"[wal]\n[[wal.files]]\nmemory = 1", ":2: wal.files: an array of tables"},
		{"[[network]]\nkafka_port = 1", ":1: network: an array of tables"},
		{"[wal]\nmemory = '64MiB'\nmemory = '65MiB'", ":3:1: toml: key memory"},
	} {
		_, err := load(t, c.file, configs.Sources{})
		if err == nil || !strings.Contains(err.Error(), "rustmq.toml"+c.want) {
			t.Errorf("%s\n\tgave %v\n\twant …%s", c.file, err, c.want)
		}
	}
	for _, same := range []string{"[wal]\nmemory = '64MiB'", "wal.memory = '64MiB'", "wal = {memory = '64MiB'}", "[wal]\n'memory' = 67_108_864", "[wal]\nmemory = 0x4000000"} {
		c, err := load(t, same, configs.Sources{})
		if err != nil || c.WAL.Memory != 64<<20 {
			t.Errorf("%s: %v", same, err)
		} else if got := string(c.Origin("wal.memory")); !strings.Contains(got, "rustmq.toml:") {
			t.Errorf("%s: came from %s", same, got)
		}
	}
}

// The second listener has a port that nothing else of the node has.
func TestTheExternalPortIsItsOwn(t *testing.T) {
	clustered := []string{"object_storage.url=s3://streams", "controller.peers=1@127.0.0.1:9200:9201"}
	for port, want := range map[string]string{"9092": "network.kafka_port", "9642": "network.http_port", "9093": "network.broker_port", "9200": "controller.peers", "9201": "controller.peers", "9192": "", "9094": ""} {
		_, err := configs.Load(configs.Sources{Set: append([]string{"network.external.advertised_host=kafka", "network.external.port=" + port}, clustered...)})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), port+" is ") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("port %s: %v", port, err)
		}
	}
}

// TestValuesOutOfRangeAreRefused has a line for every rule between keys, and
// for each kind of range.
func TestValuesOutOfRangeAreRefused(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"broker.id=0", "0 is out of range: 1 to 2147483647"},
		{"broker.id=2147483648", "not a whole number of 32 bits"},
		{"broker.data_dir=", "name a directory"},
		{"broker.roles=broker,witness", `"witness" is not one of broker, controller, admin`},
		{"broker.message_max_bytes=9MiB", "more than a quarter of wal.segment_size, 32MiB"},
		{"broker.message_max_bytes=200MiB", "does not fit in network.max_frame, 100MiB"},
		{"broker.groups.max_session_timeout=1s", "less than broker.groups.min_session_timeout, 6s"},
		{"broker.transactions.max_timeout=25h", "1ms to 24h"},
		{"broker.transactions.id_expiration=0s", "is out of range"},
		{"network.bind=example.com", "is not an address"},
		{"network.bind=0.0.0.0", "set security.allow_insecure = true"},
		{"security.authorization.mode=maybe", "is not one of auto, on, off"},
		{"security.authorization.super_users=root;User:*", "would be everybody"},
		{"security.authorization.super_users=root; User:", "is no name of a user"},
		{"network.bind=192.0.2.1", "set security.allow_insecure = true"},
		{"network.advertised_host=kafka:9092", "without a port"},
		{"network.advertised_host=0.0.0.0", "could dial"},
		{"network.advertised_host=::", "could dial"},
		{"network.advertised_host=224.0.0.1", "could dial"},
		{"network.advertised_host=*", "could dial"},
		{"network.advertised_host=-x", "could dial"},
		{"network.advertised_host=a..b", "could dial"},
		{"network.advertised_host=two words", "could dial"},
		{"network.external.advertised_host=kafka:9092", "without a port"},
		{"network.external.advertised_port=31091", "is told to nobody"},
		{"network.external.port=70000", "out of range"},
		{"object_storage.url=file:///", "root of the disk"},
		{"object_storage.url=file:///a/..", "root of the disk"},
		{"object_storage.url=file:///a?x=1", "has no parameters"},
		{"object_storage.url=file:///a#b", "has no parameters"},
		{"network.http_port=9092", "9092 is network.kafka_port too"},
		{"network.kafka_port=65536", "0 to 65535"},
		{"network.idle_timeout=0s", "1s to 24h"},
		{"wal.segment_size=5000001", "not a multiple of 4KiB"},
		{"wal.capacity=100MiB", "less than eight segments"},
		{"wal.reserve=5GiB", "not less than half of wal.capacity"},
		{"wal.memory=1KiB", "8MiB to 1TiB"},
		{"wal.memory=-1", "is not a size"},
		{"object_storage.prefix=..", "begins no key"},
		{"object_storage.prefix=.", "begins no key"},
		{"object_storage.prefix=a/../b", "begins no key"},
		{"object_storage.prefix=a/./b", "begins no key"},
		{"object_storage.prefix=.writing", "begins no key"},
		{"object_storage.prefix=a\\b", "begins no key"},
		{"object_storage.prefix=" + strings.Repeat("a", 300), "begins no key"},
		{"object_storage.prefix=" + strings.Repeat("a/", 300) + "a", "begins no key"},
		{"object_storage.prices.get=$1", "is not a price in dollars"},
		{"wal.memory=9223372036854775807TiB", "is not a size"},
		{"wal.sync_interval=-1s", "1ms to 24h"},
		{"compaction.parallel=65", "0 to 64"},
		{"compaction.bandwidth=1023KiB", "1MiB for each of compaction.parallel"},
		{"compaction.bandwidth=2TiB", "1MiB for each"},
		{"compaction.min_object=40MiB", "less than twice compaction.min_object"},
		{"object_storage.upload_timeout=2s", "too little to make 1 objects"},
		{"compaction.interval=1ms", "1s to 24h"},
		{"compaction.key_memory=1KiB", "1MiB to 64GiB"},
		{"compaction.key_interval=1ms", "10ms to 24h"},
		{"controller.raft.heartbeat=1ns", "1ms to 24h"},
		{"controller.raft.heartbeat=2000000h", "1ms to 24h"}, // times five is negative
		{"controller.raft.election_timeout=249ms", "less than five times controller.raft.heartbeat, 50ms"},
		{"replication.heartbeat_timeout=2s", "not more than replication.heartbeat_interval, 2s"},
		{"security.tls.cert_file=a.pem", "or neither"},
		{"security.tls.min_version=1.1", "is not one of 1.3, 1.2"},
		{"security.tls.client_auth=maybe", "is not one of none, request, require"},
		{"security.tls.client_auth=require", "whose certificates are taken?"},
		{"security.tls.client_auth=request", "over plain TCP nobody shows a certificate"},
		{"security.tls.client_ca_file=a.pem", "nobody is asked for a certificate"},
		{"security.tls.crl_file=a.pem", "nobody is asked for a certificate"},
		{"security.cluster.crl_file=a.pem", "no servers to be revoked"},
		{"security.sasl.mechanisms=GSSAPI", "is not one of SCRAM-SHA-512"},
		{"security.sasl.mechanisms=PLAIN,PLAIN", "named twice"},
		{"security.sasl.mechanisms=OAUTHBEARER", "OAUTHBEARER needs it"},
		{"security.sasl.max_session=9ms", "1s to"},
		{"security.sasl.oauth.skew=6m", "0s to 5m"},
		{"security.sasl.oauth.refresh_interval=1s", "10s to"},
		{"network.quic.enabled=maybe", "is not true or false"},
	} {
		_, err := configs.Load(configs.Sources{Set: []string{c.set}})
		key, _, _ := strings.Cut(c.set, "=")
		var all *configs.Error
		if !errors.As(err, &all) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gave %v, want …%s", c.set, err, c.want)
			continue
		}
		for _, p := range all.Problems {
			if p.Key == key && p.Origin != "--set" {
				t.Errorf("%s: the problem is told to come from %q", c.set, p.Origin)
			}
		}
	}
	if _, err := configs.Load(configs.Sources{Set: []string{"network.bind=0.0.0.0", "security.allow_insecure=true"}}); err != nil {
		t.Error(err)
	}
}

func TestNearestKeyIsSuggested(t *testing.T) {
	for wrong, want := range map[string]string{
		"kafka_port": "network.kafka_port", "network.kafkaport": "network.kafka_port", "wal.sink": "wal.sync", "quic.enabled": "network.quic.enabled",
		"raft.election_timeout": "controller.raft.election_timeout", "zzzzzzzzzzzzzzzzzzzz": "",
	} {
		_, err := configs.Load(configs.Sources{Set: []string{wrong + "=1"}})
		if err == nil || want == "" && strings.Contains(err.Error(), "did you mean") || want != "" && !strings.Contains(err.Error(), "did you mean "+want+"?") {
			t.Errorf("%s: %v, want %q", wrong, err, want)
		}
	}
}

func TestEnvironmentSetsEveryKey(t *testing.T) {
	var environ []string
	for _, k := range configs.Keys() {
		environ = append(environ, k.Env()+"="+configs.Default().Value(k))
	}
	c, err := configs.Load(configs.Sources{Environ: append(environ, "RUSTMQ_CONTEXT=prod", "RUSTMQX=1", "odd")})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range configs.Keys() {
		if got := string(c.Origin(k.Name)); got != "environment "+k.Env() {
			t.Errorf("%s came from %s", k.Name, got)
		}
	}
	if _, err := configs.Load(configs.Sources{Environ: []string{"RUSTMQ_WAL_MEMORY=1MiB"}}); err == nil ||
		!strings.Contains(err.Error(), "environment RUSTMQ_WAL_MEMORY: wal_memory: there is no such key; did you mean wal.memory?") {
		t.Errorf("one underscore: %v", err)
	}
}

// TestServicesOfKubernetesSetNoKey has the variables that a pod gets for Services
// named rustmq and rustmq-headless, with their ports, and what is only like them.
func TestServicesOfKubernetesSetNoKey(t *testing.T) {
	if _, err := configs.Load(configs.Sources{Environ: []string{
		"RUSTMQ_SERVICE_HOST=10.0.0.1", "RUSTMQ_SERVICE_PORT=9092", "RUSTMQ_SERVICE_PORT_KAFKA=9092", "RUSTMQ_SERVICE_PORT_KAFKA_QUIC=9092",
		"RUSTMQ_PORT=tcp://10.0.0.1:9092", "RUSTMQ_PORT_9092_TCP=tcp://10.0.0.1:9092", "RUSTMQ_PORT_9092_TCP_PROTO=tcp", "RUSTMQ_PORT_9092_TCP_PORT=9092",
		"RUSTMQ_PORT_9092_TCP_ADDR=10.0.0.1", "RUSTMQ_PORT_9092_UDP=udp://10.0.0.1:9092", "RUSTMQ_HEADLESS_SERVICE_HOST=10.0.0.2",
		"RUSTMQ_HEADLESS_SERVICE_PORT=9092", "RUSTMQ_HEADLESS_PORT=tcp://10.0.0.2:9092", "RUSTMQ_HEADLESS_PORT_9092_TCP_ADDR=10.0.0.2",
	}}); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{
		"RUSTMQ_NETWORK_HTTP_PORT=8080", "RUSTMQ_PORT=9092", "RUSTMQ_HOST=a", "RUSTMQ_SERVICE=a", "RUSTMQ_PORT_X_TCP=tcp://a", "RUSTMQ_PORT_9092_TCP=1",
		"RUSTMQ_PORT_9092_TCP_NAME=a", "RUSTMQ_NETWORK__SERVICE_HOST=a", "RUSTMQ_NETWORK__PORT=tcp://a", "RUSTMQ_SERVICE_HOST_NAME=a",
	} {
		name, _, _ := strings.Cut(wrong, "=")
		if _, err := configs.Load(configs.Sources{Environ: []string{wrong}}); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: %v, want an unknown key", wrong, err)
		}
	}
}

func TestReferenceNamesEveryKey(t *testing.T) {
	text := configs.Reference()
	for _, k := range configs.Keys() {
		if row := "| `" + strings.TrimPrefix(k.Name, k.Section+".") + "` | " + k.Type + " | `" + configs.Default().Value(k) + "` | " + map[string]string{"": "restart", configs.LiveNode: "live", configs.LiveCluster: "live, for all"}[k.Live] + " | " + k.Doc + " |"; !strings.Contains(text, row) {
			t.Errorf("not in the reference: %s", row)
		}
	}
}

func TestUnreadableFileIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.toml")
	if _, err := configs.Load(configs.Sources{File: missing}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Fatal(err)
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

func TestHostsThatClientsCanDialAreTaken(t *testing.T) {
	for _, host := range []string{"kafka", "broker-0.kafka.svc.cluster.local", "Broker_1.example.", "10.0.0.7", "2001:db8::7", "fe80::1%eth0", "bücher.example", "0x", "127.0.0.1"} {
		if _, err := configs.Load(configs.Sources{Set: []string{"network.advertised_host=" + host}}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestWhoIsBoundElsewhere: beyond loopback there has to be somebody who asks who calls, of
// clients and of servers, or an operator who insists. HTTP stays where it does not ask.
func TestWhoIsBoundElsewhere(t *testing.T) {
	clients := []string{"network.tls=on", "security.tls.client_auth=require", "security.tls.client_ca_file=ca.pem"}
	servers := []string{"security.cluster.ca_file=ca.pem", "security.cluster.cert_file=n.pem", "security.cluster.key_file=n.key"}
	peers := []string{"controller.peers=1@10.0.0.1,2@10.0.0.2,3@10.0.0.3", "object_storage.url=s3://streams"}
	alone := []string{"network.bind=10.0.0.1"}
	for _, w := range []struct {
		what    string
		set     [][]string
		refused string
		http    string
	}{
		{"nothing", [][]string{alone}, "clients are not authenticated", ""},
		{"clients asked", [][]string{alone, clients}, "", "10.0.0.1"},
		{"clients asked, HTTP in the clear", [][]string{alone, clients, {"network.http_tls=off"}}, "", "127.0.0.1"},
		{"clients that may", [][]string{alone, clients, {"security.tls.client_auth=request"}}, "clients are not authenticated", ""},
		{"clients asked, of IPv6, HTTP not", [][]string{alone, clients, {"network.bind=::", "security.rest.authentication=off"}}, "", "::1"},
		{"clients asked, servers not", [][]string{alone, peers, clients}, "be a server of the cluster", ""},
		{"servers asked, clients not", [][]string{alone, peers, servers}, "clients are not authenticated", ""},
		{"both asked", [][]string{alone, peers, clients, servers}, "", "10.0.0.1"},
		{"a controller that asks", [][]string{alone, peers, servers, {"broker.roles=controller"}}, "", "127.0.0.1"},
		{"the operator insists", [][]string{alone, peers, {"security.allow_insecure=true"}}, "", "10.0.0.1"},
		{"loopback", [][]string{{"network.bind=127.0.0.9"}}, "", "127.0.0.9"},
	} {
		c, err := configs.Load(configs.Sources{Set: slices.Concat(w.set...)})
		if w.refused != "" {
			if err == nil || !strings.Contains(err.Error(), w.refused) {
				t.Errorf("%s: %v; want %q", w.what, err, w.refused)
			}
			continue
		}
		if err != nil || c.HTTPBind() != w.http {
			t.Errorf("%s: %v; HTTP is to be on %s", w.what, err, w.http)
		} else if open := c.Loopback() || c.Security.AllowInsecure; c.Guarded() == open && w.what != "loopback" {
			t.Errorf("%s: guarded %v", w.what, c.Guarded())
		}
	}
}
