package doctor

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rustmq.dev/rustmq/configs"
	"rustmq.dev/rustmq/security/pki"
	"rustmq.dev/rustmq/security/pki/pkitest"
)

// fit is what /proc and /sys say of a host that is well.
var fit = map[string]string{
	"sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
	"proc/sys/vm/max_map_count":                                       "65530\n",
	"proc/meminfo":                                                    "MemTotal:       65536000 kB\nMemFree: 1 kB\nSwapTotal:             0 kB\n",
	"proc/sys/vm/swappiness":                                          "60\n",
	"sys/kernel/mm/transparent_hugepage/enabled":                      "always [madvise] never\n",
	"sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none":     "511\n",
	"proc/sys/vm/overcommit_memory":                                   "0\n",
	"proc/sys/net/core/somaxconn":                                     "4096\n",
	"proc/sys/net/core/rmem_max":                                      "7500000\n",
	"proc/sys/net/core/wmem_max":                                      "7500000\n",
	"proc/self/cgroup":                                                "0::/a/b\n",
	"sys/fs/cgroup/a/pids.max":                                        "max\n",
}

// examined looks at a host like fit, but for what is changed; "" takes a file away.
func examined(t *testing.T, c *configs.Config, changed map[string]string) map[string]Check {
	t.Helper()
	root := t.TempDir()
	for name, text := range fit {
		if other, is := changed[name]; is {
			text = other
		}
		plant(t, root, name, text)
	}
	for name, text := range changed {
		plant(t, root, name, text)
	}
	all := map[string]Check{}
	for _, check := range Examine(t.Context(), Options{Config: c, Root: root}) {
		if _, twice := all[check.Name]; twice {
			t.Errorf("%s is there twice", check.Name)
		}
		if (check.Verdict == Warn || check.Verdict == Fail) != (check.Why != "" && check.Do != "") || check.Found == "" {
			t.Errorf("%+v: what is ill says why and what to do, and nothing else does", check)
		}
		all[check.Name] = check
	}
	return all
}

func plant(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if text == "" {
		_ = os.Remove(path)
		return
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// small is a node that any host takes: free ports, and a log of little.
func small(t *testing.T) *configs.Config {
	t.Helper()
	c, err := configs.Load(configs.Sources{Set: []string{
		"network.kafka_port=0", "network.http_port=0", "wal.segment_size=1MiB", "wal.capacity=16MiB", "wal.reserve=2MiB", "wal.upload_bytes=1MiB", "broker.message_max_bytes=64KiB",
		"broker.data_dir=" + filepath.Join(t.TempDir(), "not", "yet"), "network.max_connections=500", "network.max_connections_per_ip=500",
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEachSettingOfTheKernelIsJudged changes one at a time: exactly that check has another
// verdict.
func TestEachSettingOfTheKernelIsJudged(t *testing.T) {
	c := small(t)
	base := examined(t, c, nil)
	for _, name := range []string{"data directory", "clock source", "memory maps", "memory", "swap", "huge pages", "overcommit", "backlog", "udp buffers", "ports", "threads"} {
		if base[name].Verdict != OK {
			t.Errorf("of a host that is well: %+v", base[name])
		}
	}
	for _, one := range []struct {
		check   string
		want    Verdict
		changed map[string]string
	}{
		{"clock source", Warn, map[string]string{"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"}},
		{"clock source", Skip, map[string]string{"sys/devices/system/clocksource/clocksource0/current_clocksource": ""}},
		{"memory maps", Warn, map[string]string{"proc/sys/vm/max_map_count": "1000"}},
		{"memory maps", Skip, map[string]string{"proc/sys/vm/max_map_count": ""}},
		{"memory", Fail, map[string]string{"proc/meminfo": "MemTotal: 1000000 kB\n"}},
		{"memory", Warn, map[string]string{"proc/meminfo": "MemTotal: 2200000 kB\n"}},
		{"memory", Fail, map[string]string{"sys/fs/cgroup/memory.max": "1000000000"}},
		{"memory", OK, map[string]string{"sys/fs/cgroup/memory.max": "max"}},
		{"memory", Skip, map[string]string{"proc/meminfo": ""}},
		{"swap", Warn, map[string]string{"proc/meminfo": "MemTotal: 65536000 kB\nSwapTotal: 1000 kB\n"}},
		{"swap", OK, map[string]string{"proc/meminfo": "MemTotal: 65536000 kB\nSwapTotal: 1000 kB\n", "proc/sys/vm/swappiness": "1"}},
		{"huge pages", Warn, map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never"}},
		{"huge pages", OK, map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never", "sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none": "0"}},
		{"huge pages", Skip, map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": ""}},
		{"overcommit", Warn, map[string]string{"proc/sys/vm/overcommit_memory": "2"}},
		{"backlog", Warn, map[string]string{"proc/sys/net/core/somaxconn": "128"}},
		{"backlog", Skip, map[string]string{"proc/sys/net/core/somaxconn": ""}},
		{"udp buffers", Warn, map[string]string{"proc/sys/net/core/wmem_max": "212992"}},
		{"udp buffers", OK, map[string]string{"proc/sys/net/core/rmem_max": "2000000"}},
		{"udp buffers", Skip, map[string]string{"proc/sys/net/core/rmem_max": ""}},
		{"threads", Warn, map[string]string{"sys/fs/cgroup/a/b/pids.max": "100"}},
	} {
		all := examined(t, c, one.changed)
		if got := all[one.check]; got.Verdict != one.want {
			t.Errorf("%v: %+v, want %s", one.changed, got, one.want)
		}
	}
}

// TestEachJudgement walks what is measured and cannot be planted.
func TestEachJudgement(t *testing.T) {
	c := configs.Default()
	h := host{config: c}
	ms := time.Millisecond
	day := 24 * time.Hour
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	leaf := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to)}
	}
	many := func(d time.Duration, last time.Duration) []time.Duration {
		all := make([]time.Duration, 100)
		for i := range all {
			all[i] = d
		}
		all[0] = last
		return all
	}
	const gib = 1 << 30
	for name, one := range map[string]struct {
		got  Check
		want Verdict
	}{
		"sync well":             {judgeSyncs(many(ms, 2*ms), 500*ms), OK},
		"sync slow":             {judgeSyncs(many(15*ms, 20*ms), 500*ms), Warn},
		"sync too slow to lead": {judgeSyncs(many(ms, 600*ms), 500*ms), Fail},
		"sync too fast":         {judgeSyncs(many(2*time.Microsecond, 3*time.Microsecond), 500*ms), Warn},
		"ext4":                  {judgeFileSystem("/x", unix.EXT4_SUPER_MAGIC), OK},
		"tmpfs":                 {judgeFileSystem("/x", unix.TMPFS_MAGIC), Fail},
		"nfs":                   {judgeFileSystem("/x", unix.NFS_SUPER_MAGIC), Warn},
		"unknown":               {judgeFileSystem("/x", 0x1234), Skip},
		"room":                  {h.judgeRoom("/x", 100*gib, 200*gib, 1e6, 1e6, 0), OK},
		"room for half":         {h.judgeRoom("/x", 15*gib, 200*gib, 1e6, 1e6, 0), Warn},
		"no room for a log":     {h.judgeRoom("/x", 8*int64(c.WAL.SegmentSize)-1, 200*gib, 1e6, 1e6, 0), Fail},
		"no room, but a log":    {h.judgeRoom("/x", gib/8, 200*gib, 1e6, 1e6, 30*gib), OK},
		"no inodes":             {h.judgeRoom("/x", 100*gib, 200*gib, 5, 1e6, 0), Fail},
		"files":                 {judgeFiles(c, 1<<20), OK},
		"files unlimited":       {judgeFiles(c, unix.RLIM_INFINITY), OK},
		"few files":             {judgeFiles(c, 10_000), Warn},
		"no files":              {judgeFiles(c, 1024), Fail},
		"in step":               {judgeStep(false, ms), OK},
		"not in step":           {judgeStep(true, 0), Warn},
		"hardly in step":        {judgeStep(false, 5*time.Second), Warn},
		"no GSO":                {judgeOffloads(false, true), Warn},
		"no GRO":                {judgeOffloads(true, false), Warn},
		"certificate":           {judgeCertificate("c", leaf(-day, 30*day), now), OK},
		"certificate ends":      {judgeCertificate("c", leaf(-day, 29*day), now), Warn},
		"certificate ended":     {judgeCertificate("c", leaf(-2*day, -day), now), Fail},
		"certificate begins":    {judgeCertificate("c", leaf(day, 2*day), now), Fail},
		"bucket":                {Bucket(Probed{Where: "s3://x", Took: ms}, nil)[0], OK},
		"bucket away":           {Bucket(Probed{}, errors.New("no such host"))[0], Fail},
		"bucket refuses":        {Bucket(Probed{Failed: []string{"put if absent: denied"}}, nil)[0], Fail},
		"bucket's clock":        {Bucket(Probed{Skew: -20 * time.Second}, nil)[1], Warn},
		"bucket's clock far":    {Bucket(Probed{Skew: time.Hour}, nil)[1], Fail},
	} {
		if one.got.Verdict != one.want {
			t.Errorf("%s: %+v, want %s", name, one.got, one.want)
		}
		if ill := one.want == Warn || one.want == Fail; ill != (one.got.Why != "" && one.got.Do != "") {
			t.Errorf("%s: %+v", name, one.got)
		}
	}
}

// TestPortsThatAreTaken are a failure, unless the node that is to have them has them.
func TestPortsThatAreTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := small(t)
	c.Network.HTTPPort = l.Addr().(*net.TCPAddr).Port
	if got := examined(t, c, nil)["ports"]; got.Verdict != Fail || !strings.Contains(got.Found, "network.http_port") {
		t.Errorf("%+v", got)
	}
	c.Broker.DataDir = t.TempDir()
	lock := filepath.Join(c.Broker.DataDir, "lock")
	if err := os.WriteFile(lock, []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(lock, &st); err != nil {
		t.Fatal(err)
	}
	locks := "1: POSIX  ADVISORY  READ 1 08:01:5 0 EOF\n2: FLOCK  ADVISORY  WRITE 4711 08:01:" + strconv.FormatUint(st.Ino, 10) + " 0 EOF\n"
	all := examined(t, c, map[string]string{"proc/locks": locks})
	if got := all["ports"]; got.Verdict != OK || !strings.Contains(got.Found, "pid 4711") {
		t.Errorf("%+v", got)
	}
	if got := all["data directory"]; got.Verdict != OK || !strings.Contains(got.Found, "pid 4711") {
		t.Errorf("%+v", got)
	}
}

// TestAuthoritiesThatAreNone are a failure, as they are when the node starts.
func TestAuthoritiesThatAreNone(t *testing.T) {
	ca := pkitest.New(t, "ca")
	ca.Sign("node", pkitest.Server(pki.Identity{Cluster: "c", Node: 1}))
	const key = "security.tls.client_ca_file"
	c := small(t)
	c.Security.TLS.ClientCAFile = ca.CAFile()
	if got, said := examined(t, c, nil)[key]; said {
		t.Errorf("%+v", got)
	}
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no certificate")}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{ca.KeyFile("node"), garbage, filepath.Join(t.TempDir(), "none.pem")} {
		c.Security.TLS.ClientCAFile = file
		if got := examined(t, c, nil)[key]; got.Verdict != Fail || !strings.Contains(got.Found, file) {
			t.Errorf("%s: %+v", file, got)
		}
	}
	c.Security.TLS.ClientCAFile, c.Security.TLS.CRLFile = ca.CAFile(), garbage
	if got := examined(t, c, nil)[key]; got.Verdict != Fail || !strings.Contains(got.Found, garbage) {
		t.Errorf("lists: %+v", got)
	}
}

// TestAnExaminationLeavesNothing behind, and makes no directory.
func TestAnExaminationLeavesNothing(t *testing.T) {
	c := small(t)
	root := t.TempDir()
	c.Broker.DataDir = filepath.Join(root, "data")
	if got := examined(t, c, nil)["sync latency"]; got.Verdict == Skip {
		t.Errorf("%+v", got)
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for _, check := range Examine(stopped, Options{Config: c}) {
		if check.Name == "sync latency" && check.Verdict != Skip {
			t.Errorf("interrupted: %+v", check)
		}
	}
	c.Broker.DataDir = filepath.Join(root, "file")
	if err := os.WriteFile(c.Broker.DataDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := examined(t, c, nil)["data directory"]; got.Verdict != Fail {
		t.Errorf("%+v", got)
	}
}

func TestReport(t *testing.T) {
	r := Of(well("a", "fine"), ill("b", Warn, "so", "why", "do"))
	if !r.OK || r.Count(Warn) != 1 || r.Failed() != "" {
		t.Errorf("%+v", r)
	}
	if r = Of(well("a", "fine"), ill("b", Fail, "so", "why", "do")); r.OK || r.Failed() != "b" {
		t.Errorf("%+v", r)
	}
	raw, err := json.Marshal(r)
	if want := `{"ok":false,"checks":[{"name":"a","verdict":"ok","found":"fine"},{"name":"b","verdict":"fail","found":"so","why":"why","do":"do"}]}`; string(raw) != want || err != nil {
		t.Errorf("%s, %v", raw, err)
	}
}
