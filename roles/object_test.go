package roles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/object"
)

// writeObject packs two ranges, of which one is empty, into a file.
func writeObject(t *testing.T) (file string, s *object.Summary) {
	t.Helper()
	w := batch.NewBuilder(batch.BuilderOptions{BaseOffset: 10, LeaderEpoch: 3})
	w.Add(1000, nil, []byte("a"))
	w.Add(2000, nil, []byte("b"))
	one, err := w.Build()
	must(t, err)
	var out bytes.Buffer
	s, err = object.Write(&out, object.Header{ID: 0x2a, Cluster: "test-cluster", Incarnation: 1, Broker: 7}, []object.Range{
		{
			Partition: storage.PartitionID{Topic: storage.TopicID{1}, Index: 3}, Topic: "orders", Base: 10, End: 12, LastStable: 11,
			Epochs: []object.EpochStart{{Epoch: 3, Start: 10}}, Aborted: []object.Aborted{{ProducerID: 4711, First: 7, Last: 11}},
			Batches: func(yield func(batch.Batch) error) error { return yield(one) },
		},
		{Partition: storage.PartitionID{Topic: storage.TopicID{2}}, Topic: "b", End: 5, Holes: true},
	}, object.WriteOptions{})
	must(t, err)
	file = filepath.Join(t.TempDir(), "object")
	must(t, os.WriteFile(file, out.Bytes(), 0o600))
	return file, s
}

func TestDebugObjectShowsAManifest(t *testing.T) {
	m := object.Manifest{
		Header: object.Header{ID: 0x2a, Cluster: "test-cluster", Incarnation: 1, Broker: 7}, Topic: "orders",
		Partition: storage.PartitionID{Topic: storage.TopicID{1}, Index: 3},
		Ranges: []object.Filed{
			{Object: 0x11, Size: 900, Base: 10, End: 12, Bytes: 700, MaxTimestamp: 2000, Epoch: 4, Index: object.Extent{Position: 796, Length: 100, CRC: 0x1234}},
			{Object: 0x12, Size: 800, Base: 12, End: 20, Bytes: 600, MaxTimestamp: 3000, Epoch: 4, HasAborts: true, OpenTransactions: true},
		},
	}
	b, ref, err := m.Encode()
	must(t, err)
	file := filepath.Join(t.TempDir(), "manifest")
	must(t, os.WriteFile(file, b, 0o600))
	want := fmt.Sprintf(`manifest 000000000000002a cluster=test-cluster incarnation=1 broker=7 size=%d ranges=2 entries=%08x
key test-cluster/00000001/data/2a/000000000000002a
of "orders" AQAAAAAAAAAAAAAAAAAAAA/3 [10, 20)
  [10, 12) object 0000000000000011 size=900 bytes=700 max_timestamp=2000 epoch=4 index@796+100 crc=00001234
  [12, 20) object 0000000000000012 size=800 bytes=600 max_timestamp=3000 epoch=4 index@0+0 crc=00000000 aborts open
`, len(b), ref.CRC)
	if code, stdout, stderr := rustmq(t, "", "debug", "object", file); code != 0 || stdout != want {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
	if code, stdout, _ := rustmq(t, "", "debug", "object", file, "--verify"); code != 0 || !strings.Contains(stdout, "whole") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	b[len(b)-1] ^= 1
	must(t, os.WriteFile(file, b, 0o600))
	if code, stdout, _ := rustmq(t, "", "debug", "object", file); code != 1 || !strings.Contains(stdout, "DAMAGED") {
		t.Errorf("exit %d: %s", code, stdout)
	}
}

func TestDebugObjectShowsWhatItHolds(t *testing.T) {
	file, _ := writeObject(t)
	code, stdout, stderr := rustmq(t, "", "debug", "object", file)
	const want = `object 000000000000002a cluster=test-cluster incarnation=1 broker=7 size=614 ranges=2 batches=1 records=2
key test-cluster/00000001/data/2a/000000000000002a
range "orders" AQAAAAAAAAAAAAAAAAAAAA/3 [10, 12) last_stable=11 batches=1 records=2 bytes=78 max_timestamp=2000 index@174+130 crc=CRC producers=0
  epoch 3 from 10
  aborted producer=4711 [7, 11]
  block 0 [10, 12) @96+78 crc=CRC max_timestamp=2000
range "b" AgAAAAAAAAAAAAAAAAAAAA/0 [0, 5) last_stable=0 batches=0 records=0 bytes=0 max_timestamp=-1 index@304+110 crc=CRC producers=0
`
	if got := withoutCRCs(stdout); code != 0 || got != want {
		t.Errorf("exit %d, %s\n%s", code, stderr, got)
	}
	code, stdout, _ = rustmq(t, "", "debug", "object", file, "-o", "json")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var first struct {
		Object, Key string
		Ranges      int
	}
	var second struct {
		Topic  string
		Base   int64
		Blocks []struct{ At, First, Next int64 }
	}
	if code != 0 || len(lines) != 3 {
		t.Fatalf("exit %d, %q", code, lines)
	}
	must(t, json.Unmarshal([]byte(lines[0]), &first))
	must(t, json.Unmarshal([]byte(lines[1]), &second))
	if first.Object != "000000000000002a" || first.Ranges != 2 || second.Topic != "orders" || second.Base != 10 ||
		len(second.Blocks) != 1 || second.Blocks[0].At != object.HeaderSize || second.Blocks[0].Next != 12 {
		t.Errorf("%+v, %+v", first, second)
	}
	if code, stdout, stderr = rustmq(t, "", "debug", "object", "--verify", file); code != 0 || !strings.Contains(stdout, "whole") {
		t.Errorf("exit %d, %s %s", code, stdout, stderr)
	}
}

// withoutCRCs puts a word in the place of each checksum.
func withoutCRCs(s string) string {
	parts := strings.Split(s, "crc=")
	for i := range parts[1:] {
		parts[i+1] = "CRC" + parts[i+1][8:]
	}
	return strings.Join(parts, "crc=")
}

// TestDebugObjectNamesDamage, shows the rest, and fails.
func TestDebugObjectNamesDamage(t *testing.T) {
	file, s := writeObject(t)
	whole, err := os.ReadFile(file)
	must(t, err)
	damage := func(at int64) {
		b := bytes.Clone(whole)
		b[at] ^= 1
		must(t, os.WriteFile(file, b, 0o600))
	}
	fails := func(want string, args ...string) string {
		t.Helper()
		code, stdout, stderr := rustmq(t, "", append([]string{"debug", "object", file}, args...)...)
		if code != 1 || !strings.Contains(stdout+stderr, want) {
			t.Errorf("exit %d, want %q in %s %s", code, want, stdout, stderr)
		}
		return stdout
	}
	damage(object.HeaderSize + 70) // in a batch
	fails("corrupt at byte 96", "--verify")
	fails(`"damage":"object 000000000000002a is corrupt at byte 96`, "--verify", "-o", "json")
	damage(s.Placements[0].Index.Position + 20)
	if stdout := fails("corrupt at byte 174"); !strings.Contains(stdout, `range "b"`) {
		t.Errorf("the other range is not shown in %s", stdout)
	}
	damage(40)
	fails("header: crc32c")
	damage(s.Size - 1)
	fails("footer: crc32c")
	must(t, os.WriteFile(file, []byte("not one"), 0o600))
	fails("7 bytes are no object")
	fails("7 bytes are no object", "--verify")
	must(t, os.Remove(file))
	fails("open the object")
}
