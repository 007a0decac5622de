package log

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"

	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/disk"
)

// expecting builds a batch whose records have those values of the header; of an
// empty one, none.
func expecting(t testing.TB, o batch.BuilderOptions, expected ...string) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(o)
	for _, e := range expected {
		headers := []batch.Header{{Key: []byte("other"), Value: []byte("5")}}
		if e != "" {
			headers = append(headers, batch.Header{Key: []byte(expectHeader), Value: []byte(e)})
		}
		w.Add(1_700_000_000_000, nil, []byte("v"), headers...)
	}
	b, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sendExpecting appends as a broker does, without waiting.
func sendExpecting(t testing.TB, l *Log, b batch.Batch) answer {
	t.Helper()
	out, held, err := l.Transcode(t.Context(), b, nil)
	defer held.Release()
	if err != nil {
		t.Fatal(err)
	}
	return send(t, l, out, AppendOptions{Epoch: storage.NoEpoch, Condition: held.Condition})
}

func wantUnexpected(t testing.TB, err error, want UnexpectedEndError) {
	t.Helper()
	if got, ok := errors.AsType[*UnexpectedEndError](err); !ok || *got != want {
		t.Fatalf("got %v, want %v", err, &want)
	}
}

// TestConditionStandsInTheFirstRecord: elsewhere it is refused where all records are
// looked at, and what is no offset always. Before the batch gets another codec, and
// only where the topic says so.
func TestConditionStandsInTheFirstRecord(t *testing.T) {
	s := open(t, small(disk.NewMem(disk.MemOptions{})))
	l := lead(t, s, partition(topicA, 0), 1)
	for _, recompress := range []bool{false, true} {
		for codec := batch.None; codec <= batch.Zstd; codec++ {
			to := (codec + 1) % (batch.Zstd + 1)
			for _, tc := range []struct {
				name     string
				expected []string
				want     Condition
				refused  bool
			}{
				{"none", []string{"", ""}, Condition{}, false},
				{"the first", []string{"0", ""}, Expect(0), false},
				{"alone", []string{"42"}, Expect(42), false},
				{"the last offset", []string{"9223372036854775807"}, Expect(1<<63 - 1), false},
				{"too large", []string{"9223372036854775808"}, Condition{}, true},
				{"negative", []string{"-1", ""}, Condition{}, true},
				{"signed", []string{"+1", ""}, Condition{}, true},
				{"no number", []string{"next"}, Condition{}, true},
				{"elsewhere", []string{"", "1"}, Condition{}, codec == batch.None},
				{"everywhere", []string{"0", "1"}, Expect(0), codec == batch.None},
			} {
				b := expecting(t, batch.BuilderOptions{Codec: codec}, tc.expected...)
				c := Config{Recompress: recompress, Codec: to}
				l.SetConfig(c)
				_, held, err := l.Transcode(t.Context(), b, nil)
				held.Release()
				if err != nil || held.Condition != (Condition{}) {
					t.Errorf("%s, %s, a topic without conditions: %v, %v", codec, tc.name, held.Condition, err)
				}
				c.ExpectOffset = true
				l.SetConfig(c)
				out, held, err := l.Transcode(t.Context(), b, nil)
				held.Release()
				switch {
				case tc.refused:
					wantCode(t, err, batch.InvalidRecord)
				case err != nil || held.Condition != tc.want:
					t.Errorf("%s, %s: %v, %v", codec, tc.name, held.Condition, err)
				case recompress && batch.Batch(out).Codec() != to:
					t.Errorf("%s, %s: stored with %s", codec, tc.name, batch.Batch(out).Codec())
				}
				if s.expansions.used != 0 {
					t.Fatalf("%d bytes are held by nobody", s.expansions.used)
				}
			}
		}
	}
}

// TestConditionsOfOddRecords: twice, null, and behind more than is expanded at first.
// Where conditions are not taken, what a batch holds is not looked at.
func TestConditionsOfOddRecords(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	header := func(value string) batch.Header {
		return batch.Header{Key: []byte(expectHeader), Value: []byte(value)}
	}
	one := func(codec batch.Codec, size int, headers ...batch.Header) batch.Batch {
		w := batch.NewBuilder(batch.BuilderOptions{Codec: codec})
		w.Add(1, nil, make([]byte, size), headers...)
		b, err := w.Build()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	broken := one(batch.None, 1)
	broken[batch.HeaderSize] = 99 // the record's length
	binary.BigEndian.PutUint32(broken[17:], broken.ComputeCRC())
	for name, b := range map[string]batch.Batch{
		"twice": one(batch.Zstd, 1, header("1"), header("1")), "null": one(batch.None, 1, batch.Header{Key: []byte(expectHeader)}), "broken": broken,
	} {
		l.SetConfig(Config{ExpectOffset: true})
		if _, _, err := l.Transcode(t.Context(), b, nil); err == nil {
			t.Errorf("%s: taken", name)
		} else {
			wantCode(t, err, batch.InvalidRecord)
		}
		l.SetConfig(Config{})
		if _, held, err := l.Transcode(t.Context(), b, nil); err != nil || held != (Transcoded{}) {
			t.Errorf("%s, a topic without conditions: %+v, %v", name, held, err)
		}
	}
	l.SetConfig(Config{ExpectOffset: true})
	for codec := batch.Gzip; codec <= batch.Zstd; codec++ {
		if _, held, err := l.Transcode(t.Context(), one(codec, usualExpansion, header("3")), nil); err != nil || held.Condition != Expect(3) {
			t.Errorf("%s, a large record: %+v, %v", codec, held, err)
		}
	}
}

func TestAppendAtAnotherOffsetIsRefused(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	l.SetConfig(Config{ExpectOffset: true})
	for _, tc := range []struct {
		expected string
		end      storage.Offset // before
		ok       bool
	}{{"1", 0, false}, {"0", 0, true}, {"0", 2, false}, {"1", 2, false}, {"3", 2, false}, {"2", 2, true}, {"", 4, true}} {
		r := sendExpecting(t, l, expecting(t, batch.BuilderOptions{}, tc.expected, "")).wait(t)
		if tc.ok {
			if r.Err != nil || r.Base != tc.end {
				t.Fatalf("expected %q at %d: %+v", tc.expected, tc.end, r)
			}
			continue
		}
		wantUnexpected(t, r.Err, UnexpectedEndError{Expected: storage.Offset(tc.expected[0] - '0'), End: tc.end})
		if l.End() != tc.end {
			t.Fatalf("the end moved to %d", l.End())
		}
	}
}

// TestRefusalWaitsForTheEndItWasComparedWith: who is refused because another was
// first may read what that wrote. With acks=1, too.
func TestRefusalWaitsForTheEndItWasComparedWith(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	l.SetConfig(Config{ExpectOffset: true})
	let := fs.holdSyncs(t)
	o := AppendOptions{Epoch: storage.NoEpoch, LeaderOnly: true, Condition: Expect(0)}
	first := send(t, l, values(t, "first"), o)
	second := send(t, l, values(t, "second"), o)
	if !first.pending() || !second.pending() {
		t.Fatalf("before the sync: first answered %v, second answered %v", !first.pending(), !second.pending())
	}
	let()
	wantUnexpected(t, second.wait(t).Err, UnexpectedEndError{Expected: 0, End: 1})
	if got := l.HighWatermark(); got != 1 {
		t.Fatalf("refused while the high watermark is %d", got)
	}
	if r := first.wait(t); r.Err != nil || r.Base != 0 {
		t.Fatalf("the first was answered %+v", r)
	}
}

// TestRefusalIsTakenBackWithTheEndItWasComparedWith: the condition may hold where the
// partition is led next, so that the producer is told to ask there.
func TestRefusalIsTakenBackWithTheEndItWasComparedWith(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	appendAll(t, l, values(t, "zero"))
	l.SetConfig(Config{MinInSync: 2})
	o := AppendOptions{Epoch: 1, LeaderOnly: true}
	if r := send(t, l, values(t, "lost"), o).wait(t); r.Err != nil {
		t.Fatal(r.Err)
	}
	o.Condition = Expect(1)
	refused := send(t, l, values(t, "one"), o)
	if !refused.pending() {
		t.Fatalf("compared with what is not committed, and answered %+v", refused.wait(t))
	}
	if err := l.TruncateTo(1, 2); err != nil {
		t.Fatal(err)
	}
	wantErr(t, refused.wait(t).Err, ErrNotLeader)
	if err := l.BecomeLeader(2); err != nil {
		t.Fatal(err)
	}
	l.SetConfig(Config{})
	o.Epoch = 2
	if r := send(t, l, values(t, "one"), o).wait(t); r.Err != nil || r.Base != 1 {
		t.Fatalf("sent again: %+v", r)
	}
}

// TestDuplicateIsAnsweredWhateverItExpects: what made its condition wrong is that it
// was appended. Before it is committed it waits.
func TestDuplicateIsAnsweredWhateverItExpects(t *testing.T) {
	fs := hooked()
	l := lead(t, open(t, small(fs)), partition(topicA, 0), 1)
	l.SetConfig(Config{ExpectOffset: true})
	sent := func(sequence int32, expected string) answer {
		p := batch.Producer{ID: 7, BaseSequence: sequence}
		return sendExpecting(t, l, expecting(t, batch.BuilderOptions{Codec: batch.LZ4, Producer: &p}, expected))
	}
	let := fs.holdSyncs(t)
	first, again := sent(0, "0"), sent(0, "0")
	if !again.pending() {
		t.Fatalf("the duplicate was answered %+v before its first was committed", again.wait(t))
	}
	let()
	later := sent(0, "0")
	for _, a := range []answer{first, again, later} {
		if r := a.wait(t); r.Err != nil || r.Base != 0 {
			t.Fatalf("answered %+v", r)
		}
	}
	// What was refused is not remembered, so that its number is due still.
	wantUnexpected(t, sent(1, "0").wait(t).Err, UnexpectedEndError{Expected: 0, End: 1})
	if r := sent(1, "1").wait(t); r.Err != nil || r.Base != 1 {
		t.Fatalf("the next was answered %+v", r)
	}
}

// TestOneOfRacingWritersWins: for each offset, one.
func TestOneOfRacingWritersWins(t *testing.T) {
	l := lead(t, open(t, small(disk.NewMem(disk.MemOptions{}))), partition(topicA, 0), 1)
	const writers, rounds = 4, 40
	var won [rounds]int
	var mu sync.Mutex // guards won
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for end := storage.Offset(0); end < rounds; {
				b := values(t, "v")
				if err := l.store.Admit(t.Context(), len(b)); err != nil {
					t.Error(err)
					return
				}
				a := make(answer, 1)
				l.Append(l.store.o.Now(), b, AppendOptions{Epoch: storage.NoEpoch, Condition: Expect(end)}, a)
				r := <-a
				refused, unexpected := errors.AsType[*UnexpectedEndError](r.Err)
				switch {
				case r.Err == nil && r.Base == end:
					mu.Lock()
					won[end]++
					mu.Unlock()
					end++
				case unexpected && refused.Expected == end && refused.End > end:
					end = refused.End
				default:
					t.Errorf("expected %d: %+v", end, r)
					return
				}
			}
		})
	}
	all.Wait()
	for at, n := range won {
		if n != 1 {
			t.Errorf("%d writers have offset %d", n, at)
		}
	}
	if l.End() != rounds {
		t.Errorf("the end is %d", l.End())
	}
}
