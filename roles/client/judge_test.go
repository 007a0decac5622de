package client

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rustmq.dev/rustmq/test/seeded"
)

// stored is a record that a topic holds.
type stored struct {
	partition int32
	offset    int64
	value     []byte
}

// load is what verify writes and what a sound broker makes of it: n records
// over partitions, all acked.
func load(run uint32, n, partitions int) (topic []stored, acks map[int32]map[int64]uint64, ends map[int32]int64) {
	acks, ends = map[int32]map[int64]uint64{}, map[int32]int64{}
	for i := range n {
		p := int32(i % partitions)
		number := numberOf(run, i)
		topic = append(topic, stored{p, ends[p], payload(number, 40)})
		if acks[p] == nil {
			acks[p] = map[int64]uint64{}
		}
		acks[p][ends[p]] = number
		ends[p]++
	}
	return topic, acks, ends
}

func judged(topic []stored, acks map[int32]map[int64]uint64, ends map[int32]int64) verdict {
	j := newJudge(acks)
	for _, r := range topic {
		j.take(r.partition, r.offset, r.value)
	}
	return j.verdict(ends)
}

// TestJudgeFindsWhatIsPlanted plants each fault, alone, into a sound topic of 8
// records in 2 partitions.
func TestJudgeFindsWhatIsPlanted(t *testing.T) {
	const run = 7
	for _, c := range []struct {
		name  string
		plant func(topic []stored, acks map[int32]map[int64]uint64, ends map[int32]int64) []stored
		want  verdict
	}{
		{"nothing", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored { return topic }, verdict{}},
		{"the last record of a partition is gone", func(topic []stored, _ map[int32]map[int64]uint64, ends map[int32]int64) []stored {
			ends[1]--
			return topic[:7]
		}, verdict{Lost: 1}},
		{"a record is gone, and its offset is a hole", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			return append(topic[:2], topic[3:]...)
		}, verdict{Lost: 1, Gaps: 1}},
		{"the end is a hole", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			return topic[:7]
		}, verdict{Lost: 1, Gaps: 1}},
		{"a partition is empty", func(topic []stored, _ map[int32]map[int64]uint64, ends map[int32]int64) []stored {
			ends[0] = 0
			return []stored{topic[1], topic[3], topic[5], topic[7]}
		}, verdict{Lost: 4}},
		{"two records changed places", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			topic[2].value, topic[4].value = topic[4].value, topic[2].value
			return topic
		}, verdict{Diverged: 2, Reordered: 1}},
		{"a byte of a value is another", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			topic[3].value[39] ^= 1
			return topic
		}, verdict{Diverged: 1}},
		{"a record is there twice", func(topic []stored, _ map[int32]map[int64]uint64, ends map[int32]int64) []stored {
			ends[1]++
			return append(topic, stored{1, 4, topic[7].value})
		}, verdict{Duplicated: 1, Unacked: 1}},
		{"a record is in another partition, too", func(topic []stored, _ map[int32]map[int64]uint64, ends map[int32]int64) []stored {
			ends[0]++
			return append(topic, stored{0, 4, topic[7].value})
		}, verdict{Duplicated: 1, Unacked: 1}},
		{"something else stands at an acked offset", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			topic[5].value = []byte("?")
			return topic
		}, verdict{Diverged: 1, Foreign: 1}},
		{"another load's record stands at an acked offset", func(topic []stored, _ map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			topic[5].value = payload(numberOf(run+1, 5), 40)
			return topic
		}, verdict{Diverged: 1, Foreign: 1}},
		{"a record without an ack is fine", func(topic []stored, acks map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			delete(acks[1], 3)
			return topic
		}, verdict{Acked: -1, Unacked: 1}},
		{"an unacked record behind a later one is not", func(topic []stored, acks map[int32]map[int64]uint64, _ map[int32]int64) []stored {
			delete(acks[0], 1)
			delete(acks[0], 2)
			topic[2].value, topic[4].value = topic[4].value, topic[2].value
			return topic
		}, verdict{Acked: -2, Unacked: 2, Reordered: 1}},
		{"another load in the topic is fine", func(topic []stored, _ map[int32]map[int64]uint64, ends map[int32]int64) []stored {
			ends[0]++
			return append(topic, stored{0, 4, payload(numberOf(run+1, 0), 40)})
		}, verdict{Foreign: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			topic, acks, ends := load(run, 8, 2)
			topic = c.plant(topic, acks, ends)
			c.want.Acked += 8
			c.want.Read = int64(len(topic))
			got := judged(topic, acks, ends)
			examples := int(got.Lost + got.Diverged + got.Duplicated + got.Reordered + got.Gaps)
			if len(got.Examples) != examples {
				t.Errorf("%d findings, and examples %q", examples, got.Examples)
			}
			if got.broken() != (examples > 0) {
				t.Errorf("broken: %v", got.broken())
			}
			got.Examples = nil
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestJudgeAgreesWithSets compares the judge, which reads once, with sets of
// everything, over topics with random faults.
func TestJudgeAgreesWithSets(t *testing.T) {
	seeded.Check(t, func(t *rapid.T) {
		topic, acks, ends := load(1, rapid.IntRange(1, 30).Draw(t, "records"), rapid.IntRange(1, 3).Draw(t, "partitions"))
		var kept []stored
		for _, r := range topic {
			switch rapid.IntRange(0, 9).Draw(t, "fault") {
			case 0: // lost
			case 1:
				kept = append(kept, stored{r.partition, r.offset, topic[rapid.IntRange(0, len(topic)-1).Draw(t, "other")].value})
			default:
				kept = append(kept, r)
			}
		}
		there := map[place]uint64{}
		seen := map[uint64]int{}
		for _, r := range kept {
			for _, was := range topic {
				if bytes.Equal(was.value, r.value) {
					there[place{r.partition, r.offset}] = acks[was.partition][was.offset]
				}
			}
			seen[there[place{r.partition, r.offset}]]++
		}
		var want verdict
		for p, of := range acks {
			for offset, number := range of {
				want.Acked++
				switch got, ok := there[place{p, offset}]; {
				case !ok:
					want.Lost++
				case got != number:
					want.Diverged++
				}
			}
		}
		for _, n := range seen {
			want.Duplicated += int64(n - 1)
		}
		got := judged(kept, acks, ends)
		if got.Acked != want.Acked || got.Lost != want.Lost || got.Diverged != want.Diverged || got.Duplicated != want.Duplicated {
			t.Fatalf("%+v, want %+v", got, want)
		}
	})
}

// TestStateFileIsAddedTo holds that loads share a file, and that the torn end
// of a load that was killed is no ack.
func TestStateFileIsAddedTo(t *testing.T) {
	name := filepath.Join(t.TempDir(), "acks")
	for run := range int64(3) {
		l, err := openLedger(name)
		if err != nil {
			t.Fatal(err)
		}
		l.add(int32(run), run, numberOf(uint32(run), 1))
		l.add(0, run+10, numberOf(uint32(run), 2))
		if err := l.close(); err != nil || l.acked() != 2 {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, append(raw, "torn"...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acks, err := loadAcks(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(acks); got != "map[0:map[0:1 10:2 11:4294967298 12:8589934594] 1:map[1:4294967297] 2:map[2:8589934593]]" {
		t.Error(got)
	}
}

func TestStateFileThatIsNoneIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"text":  {strings.Repeat("\xff", 40), "no state file"},
		"twice": {strings.Repeat("\x00", 20) + strings.Repeat("\x00", 12) + "\x01" + strings.Repeat("\x00", 7), "an offset was given twice"},
	} {
		if _, err := loadAcks(writeFile(t, name, c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := loadAcks(filepath.Join(t.TempDir(), "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
}

func FuzzStateFile(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0}, 60))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		if acks, err := readAcks(bytes.NewReader(raw)); err == nil {
			newJudge(acks).verdict(map[int32]int64{0: 1})
		}
	})
}
