package txn

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// What Kafka writes for an id, by its schema (TransactionLogKey, TransactionLogValue).
const (
	goldenKey = "0000" + // version
		"0002 7478" // tx
	goldenOngoing = "0001" + // version
		"0000000000000007" + "0003" + // producer id, epoch
		"00002710" + "01" + // 10 s, Ongoing
		"02 0274 03 00000000 00000001 00" + // t: 0, 1
		"0000018bcfe56be8" + "0000018bcfe56800" + // updated, started
		"02 00 08 0000000000000007 02 02 0002" // previous id, transaction version
	goldenEmpty = "0001" + "0000000000000007" + "0003" + "00002710" + "00" +
		"00" + // no partitions: null
		"0000018bcfe56be8" + "ffffffffffffffff" +
		"01 00 08 0000000000000006"
	goldenOld = "0000" + "0000000000000007" + "0003" + "00002710" + "02" +
		"00000001 0001 74 00000001 00000001" +
		"0000018bcfe56be8" + "0000018bcfe56800"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func ongoing() metadata {
	m := begun(7)
	m.state, m.previousID, m.epoch, m.timeout, m.version = Ongoing, 7, 3, 10*time.Second, 2
	m.partitions = map[Partition]bool{t0: true, t1: true}
	m.updated, m.started = 1_700_000_001_000, 1_700_000_000_000
	return m
}

func TestGoldenRecords(t *testing.T) {
	m := ongoing()
	empty := m.idle(3, noProducerEpoch, 10*time.Second, 1_700_000_001_000)
	empty.version, empty.previousID = 0, 6
	for name, tc := range map[string]struct{ got, want []byte }{
		"key":     {idKey("tx"), unhex(goldenKey)},
		"ongoing": {encode(&m), unhex(goldenOngoing)},
		"empty":   {encode(&empty), unhex(goldenEmpty)},
	} {
		if string(tc.got) != string(tc.want) {
			t.Errorf("%s:\n%x, want\n%x", name, tc.got, tc.want)
		}
	}
	var v kmsg.TxnMetadataValue
	if err := v.ReadFrom(unhex(goldenOngoing)); err != nil || v.ClientTransactionVersion != 2 || len(v.Topics) != 1 || v.PreviousProducerID != 7 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestGoldenRecordsAreReplayed(t *testing.T) {
	for name, tc := range map[string]struct {
		value string
		want  string
	}{
		"ongoing": {goldenOngoing, "Ongoing 7/3 of 2 partitions, version 2"},
		"empty":   {goldenEmpty, "Empty 7/3 of 0 partitions, version 0"},
		"old":     {goldenOld, "PrepareCommit 7/3 of 1 partitions, version 0"},
	} {
		d := newDesk(t)
		d.log = []record{{unhex(goldenKey), unhex(tc.value)}}
		d.restart()
		m := d.core.ids["tx"].metadata
		if got := summary(&m); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func summary(m *metadata) string {
	return fmt.Sprintf("%v %d/%d of %d partitions, version %d", m.state, m.producerID, m.epoch, len(m.partitions), m.version)
}

// Damage is not read as absence: whatever is cut off, or from a version that is not
// known, fails the load.
func TestDamagedRecordFailsTheLoad(t *testing.T) {
	whole := unhex(goldenOngoing)
	replay := func(key, value []byte) error { return NewCore(Options{}).Replay(key, value) }
	for n := range len(whole) {
		if err := replay(unhex(goldenKey), whole[:n]); err == nil {
			t.Errorf("the first %d bytes are taken for all", n)
		}
	}
	for name, value := range map[string]string{
		"a version to come":  "0002" + goldenOngoing[4:],
		"dead":               strings.Replace(goldenEmpty, "00002710"+"00", "00002710"+"06", 1),
		"no producer":        strings.Replace(goldenEmpty, "0000000000000007", "ffffffffffffffff", 1),
		"no epoch":           strings.Replace(goldenEmpty, "0003", "ffff", 1),
		"a time-out of -1":   strings.Replace(goldenEmpty, "00002710", "ffffffff", 1),
		"tags without end":   strings.Replace(goldenEmpty, "01 00 08", "ffffffff0f 00 08", 1),
		"a tag that is long": strings.Replace(goldenEmpty, "01 00 08", "01 00 ffffffff0f", 1),
		"topics without end": strings.Replace(goldenOngoing, "02 0274", "ffffffff0f 0274", 1),
		"something behind":   goldenEmpty + "00",
	} {
		if err := replay(unhex(goldenKey), unhex(value)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := replay(unhex("0000 0005 7478"), unhex(goldenEmpty)); err == nil {
		t.Error("a key that is cut off is taken")
	}
	if err := replay([]byte{0}, nil); err == nil {
		t.Error("a key of a byte is taken")
	}
	c := NewCore(Options{})
	if err := c.Replay([]byte{0, 9}, []byte("from the future")); err != nil || c.Skipped() != 1 {
		t.Errorf("a key of another kind: %v, %d skipped", err, c.Skipped())
	}
}

// Whatever is replayed, the core works with it.
func FuzzReplay(f *testing.F) {
	for _, value := range []string{goldenOngoing, goldenEmpty, goldenOld, ""} {
		f.Add(unhex(goldenKey), unhex(value))
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		d := newDesk(t)
		if d.core.Replay(key, value) != nil {
			return
		}
		d.perform(d.core.Loaded(d.now, d.now))
		ids := d.core.IDs()
		if len(ids) == 0 {
			return
		}
		q := initRequest(nobody)
		q.TransactionalID = &ids[0]
		if *q.TransactionalID == "" {
			return
		}
		call := d.send(q)
		d.settle()
		resp := d.answer(call).(*kmsg.InitProducerIDResponse)
		if resp.ErrorCode != 0 || resp.ProducerID < 0 || resp.ProducerEpoch < 0 {
			t.Fatalf("%+v", resp)
		}
		d.wait(30 * 24 * time.Hour)
		d.settle()
		if n := d.core.Open(); n > 0 {
			t.Fatalf("%d open", n)
		}
	})
}
