package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// topic is a sink that keeps records, and fails while err is set.
type topic struct {
	mu      sync.Mutex
	records [][]byte
	err     error
	stuck   bool // Append returns when its context has ended
	lost    int  // appends that succeed, and whose answer is lost
	last    [][]byte
}

func (s *topic) Append(ctx context.Context, records [][]byte) (int64, error) {
	s.mu.Lock()
	if s.stuck {
		s.mu.Unlock()
		<-ctx.Done()
		return 0, ctx.Err()
	}
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	again := slices.EqualFunc(records, s.last, func(a, b []byte) bool { return string(a) == string(b) })
	if !again {
		s.records = append(s.records, records...)
	}
	s.last = records
	if s.lost > 0 {
		s.lost--
		return 0, errors.New("no answer")
	}
	return int64(len(s.records) - len(records)), nil
}

func (s *topic) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *topic) read(t *testing.T) (all []*Record) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, value := range s.records {
		r, err := Parse(value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// verified fails unless the topic is whole and ends as the log says.
func (s *topic) verified(t *testing.T, live ...Head) Report {
	t.Helper()
	v := NewVerifier(0, Expected{Live: live})
	for i, value := range s.records {
		v.Add(int64(i), value)
	}
	r := v.Report()
	if !r.Whole {
		t.Errorf("%+v", r.Faults)
	}
	return r
}

func started(s Sink, change func(*Options)) *Log {
	o := Options{Node: 1, Policy: NewPolicy(ClassDenied, ClassLogin, ClassAdmin)}
	if change != nil {
		change(&o)
	}
	l := New(o)
	l.Start(s)
	return l
}

func closed(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func act(name string) Event {
	return Event{Principal: "User:alice", Source: "10.0.0.1:1000", Door: DoorKafkaTLS, Action: "topic.create", ResourceType: "topic", Resource: name, Outcome: Allowed}
}

func denial(name string) Event {
	e := act(name)
	e.Action, e.Outcome = "topic.write", Denied
	return e
}

func TestEventsAreWrittenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		for i := range 1000 {
			l.Record(act(fmt.Sprint(i)))
		}
		synctest.Wait()
		head, _ := l.Head()
		if r := s.verified(t, head); r.Records != 1001 || head.Seq != 1000 || head.Offset != 1000 {
			t.Errorf("%+v, head %+v", r, head)
		}
		for i, r := range s.read(t)[1:] {
			if r.Resource != fmt.Sprint(i) || r.Node != 1 || r.Time.IsZero() {
				t.Fatalf("record %d: %+v", i, r)
			}
		}
		closed(t, l)
	})
}

// Nothing is written for what was not recorded: a process in which nothing happens makes no
// topic.
func TestWithoutEventsNothingIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		l.Record(Event{Action: DataUse("read"), Outcome: Allowed}) // the policy has no data
		time.Sleep(time.Hour)
		closed(t, l)
		if len(s.records) != 0 {
			t.Errorf("%d records", len(s.records))
		}
	})
}

func TestARestartContinuesTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		var kept *Head
		for life := range 3 {
			l := started(s, func(o *Options) {
				o.Before = kept
				o.Remember = func(h Head) error { kept = &h; return nil }
			})
			for range 5 {
				l.Record(act(fmt.Sprint(life)))
				time.Sleep(time.Second)
			}
			closed(t, l)
		}
		if r := s.verified(t, *kept); r.Lives != 3 || r.Records != 18 {
			t.Errorf("%+v", r)
		}
		begin := s.read(t)[12]
		if begin.Kind != kindBegin || begin.after == nil || begin.after.Seq != 5 || begin.after.Offset != 11 {
			t.Errorf("%+v, after %+v", begin, begin.after)
		}
		s.records = slices.Delete(s.records, 11, 12) // the end of the second life
		v := NewVerifier(0, Expected{})
		for i, value := range s.records {
			v.Add(int64(i), value)
		}
		if r := v.Report(); r.Whole {
			t.Error("the end of a life is cut, and nothing says so")
		}
	})
}

// An answer that is lost has the same bytes sent again: the chain does not fork.
func TestWhatMayBeWrittenIsSentAgainAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{lost: 3}
		l := started(s, nil)
		l.Record(act("a"))
		time.Sleep(10 * time.Second)
		l.Record(act("b"))
		closed(t, l)
		head, _ := l.Head()
		if r := s.verified(t, head); r.Records != 3 {
			t.Errorf("%+v", r)
		}
	})
}

func TestALoopOfDenialsIsFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		began := time.Now()
		for i := range 30_000 { // for 5 minutes
			e := denial("orders")
			e.Source = fmt.Sprint("10.0.0.1:", 1000+i%1000) // each from another connection
			l.Record(e)
			time.Sleep(10 * time.Millisecond)
		}
		closed(t, l)
		var count int64
		records := s.read(t)
		for _, r := range records[1:] {
			count += max(r.Count, 1)
			if r.Count > 1 && (r.First.Before(began) || !r.Time.After(r.First)) {
				t.Errorf("%+v", r)
			}
		}
		if count != 30_000 || len(records) > 12 {
			t.Errorf("%d records for %d denials", len(records), count)
		}
		if got := l.Stats().Events[Denied]; got != 30_000 {
			t.Errorf("%d counted", got)
		}
	})
}

// Who thinks of names is told by a few of them, and cannot fill the log.
func TestDenialsOfManyNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		for i := range 10_000 {
			l.Record(denial(fmt.Sprint("name-", i)))
			e := denial(fmt.Sprint("name-", i%100))
			e.Source = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)
			l.Record(e)
		}
		synctest.Wait()
		if n := len(s.read(t)); n > 2*maxFolds {
			t.Errorf("%d records in a minute", n)
		}
		closed(t, l)
		var count int64
		for _, r := range s.read(t)[1:] {
			count += max(r.Count, 1)
		}
		if count != 20_000 {
			t.Errorf("%d of 20000 are accounted for", count)
		}
	})
}

// Acts that were done are told one by one, however many.
func TestActsAreNotFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		for range 5000 {
			l.Record(act("orders"))
		}
		closed(t, l)
		if n := len(s.records); n != 5001 {
			t.Errorf("%d records", n)
		}
	})
}

// Purging a topic is what some clients do all day; it cannot push out what came before.
func TestOrdinaryActsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		for range 6000 { // for a minute
			e := act("orders")
			e.Action, e.Detail = "topic.delete-records", "partition=0 log_start=7"
			l.Record(e)
			time.Sleep(10 * time.Millisecond)
		}
		closed(t, l)
		var count int64
		for _, r := range s.read(t)[1:] {
			count += max(r.Count, 1)
		}
		if n := len(s.records); n > 4 || count != 6000 {
			t.Errorf("%d records for %d acts", n, count)
		}
	})
}

// A stranger with a network of its own, or many, does not have others be told without a name.
func TestStrangersHideNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		for i := range 50_000 {
			e := denial(fmt.Sprint("name-", i))
			e.Principal, e.Action, e.Source = "", Login, fmt.Sprintf("[2001:db8:%x::%x]:1", i&255, i)
			l.Record(e)
		}
		synctest.Wait()
		if n := len(s.read(t)); n > maxFolds {
			t.Errorf("%d records of strangers in a minute", n)
		}
		for i := range 100 {
			e := denial("secrets")
			e.Principal, e.Source = fmt.Sprint("User:u", i), "10.0.0.1:1"
			l.Record(e)
			e.Action, e.ResourceType, e.Outcome, e.Resource = Login, "user", Allowed, fmt.Sprint("u", i)
			l.Record(e)
		}
		closed(t, l)
		denied, allowed := 0, 0
		var count int64
		for _, r := range s.read(t)[1:] {
			count += max(r.Count, 1)
			switch {
			case strings.HasPrefix(r.Principal, "User:u") && r.Outcome == Denied && r.Resource == "secrets" && r.Source == "10.0.0.1:1":
				denied++
			case strings.HasPrefix(r.Principal, "User:u") && r.Outcome == Allowed:
				allowed++
			}
		}
		if denied != 100 || allowed != 100 || count != 50_200 {
			t.Errorf("%d denials and %d logins of 100 users are told by name, %d events in all", denied, allowed, count)
		}
	})
}

// One network is one client, whatever addresses it chooses.
func TestANetworkIsOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		for i := range 5000 {
			e := denial(fmt.Sprint("name-", i))
			e.Source = fmt.Sprintf("[2001:db8::%x]:1", i)
			l.Record(e)
		}
		synctest.Wait()
		if n := len(s.read(t)); n > maxPerClient+3 {
			t.Errorf("%d records", n)
		}
		closed(t, l)
	})
}

func TestWhatFindsNoRoomIsCountedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{err: errors.New("full")}
		l := started(s, func(o *Options) { o.Memory = 64 << 10 })
		for i := range 1000 {
			l.Record(act(fmt.Sprint(i)))
		}
		time.Sleep(time.Minute)
		is := l.Stats()
		if is.Lost == 0 || is.Err == nil || is.Failing < 30*time.Second || l.memory > 64<<10 {
			t.Errorf("%+v, %d bytes", is, l.memory)
		}
		if err := l.Admit(); err != nil {
			t.Errorf("the policy is to alert: %v", err)
		}
		s.fail(nil)
		time.Sleep(time.Minute)
		l.Record(act("after"))
		closed(t, l)
		head, _ := l.Head()
		r := s.verified(t, head)
		if r.Lost != is.Lost || r.Events+r.Lost != 1001 {
			t.Errorf("%d written, %d told as lost, %d were", r.Events, r.Lost, is.Lost)
		}
		if now := l.Stats(); now.Err != nil || now.Failing != 0 {
			t.Errorf("%+v", now)
		}
	})
}

func TestBlockRefusesActsUntilTheyCanBeRecorded(t *testing.T) {
	for name, broken := range map[string]*topic{"error": {err: errors.New("full")}, "silence": {stuck: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := broken
				l := started(s, func(o *Options) { o.Block = true })
				if err := l.Admit(); err != nil {
					t.Error(err)
				}
				l.Record(act("first"))
				time.Sleep(patience + time.Second)
				if err := l.Admit(); !errors.Is(err, ErrBlocked) {
					t.Errorf("%v", err)
				}
				s.mu.Lock()
				s.err, s.stuck = nil, false
				s.mu.Unlock()
				time.Sleep(time.Minute)
				if err := l.Admit(); err != nil {
					t.Error(err)
				}
				closed(t, l)
				if r := s.verified(t); r.Events != 1 || r.Lost != 0 {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// While acts are refused for want of room, what was admitted before has it.
func TestBlockRefusesBeforeTheMemoryIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{stuck: true}
		l := started(s, func(o *Options) { o.Block, o.Memory = true, 64<<10 })
		admitted := 0
		for l.Admit() == nil {
			l.Record(act(fmt.Sprint(admitted)))
			admitted++
		}
		if is := l.Stats(); is.Lost > 0 || admitted < 10 {
			t.Errorf("%d admitted, %+v", admitted, is)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := l.Close(ctx); err == nil || !strings.Contains(err.Error(), fmt.Sprint(admitted)) {
			t.Errorf("%d are not written, and closing says %v", admitted, err)
		}
	})
}

func TestNoEventCanPassForTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &topic{}
		l := started(s, nil)
		hostile := "a\n{\"v\":1,\"kind\":\"event\"}\r\x1b[2J\u202e\x00\xff\u2028\u0085"
		l.Record(Event{
			Principal: hostile, Source: hostile, Door: hostile, Action: hostile, ResourceType: hostile, Resource: hostile, Outcome: Denied,
			Reason: hostile, Detail: hostile, Request: hostile,
		})
		closed(t, l)
		r := s.read(t)[1]
		for _, text := range []string{r.Principal, r.Source, r.Door, r.Action, r.ResourceType, r.Resource, r.Reason, r.Detail, r.Request} {
			if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == '\u202e' || c == '\u2028' || c == '\u0085' }) || !strings.Contains(text, `\n`) {
				t.Errorf("%q", text)
			}
		}
		if strings.ContainsAny(string(s.records[1]), "\n\r\x1b\x00") {
			t.Errorf("%q", s.records[1])
		}
	})
}

func TestTextIsBounded(t *testing.T) {
	for _, unit := range []string{"x", "\x00", "é", "\u202e", "\xff", `"`, "<", "\U0001f600"} {
		long := strings.Repeat(unit, 1<<20/len(unit))
		e := Event{Principal: long, Source: long, Door: long, Action: long, ResourceType: long, Resource: long, Outcome: Denied, Reason: long, Detail: long, Request: long}.bounded()
		value := (&chain{node: 1, life: "l", seq: 1}).event(&e)
		if len(value) > MaxRecord {
			t.Errorf("%d bytes of %q", len(value), unit)
		}
		if _, err := Parse(value); err != nil {
			t.Errorf("%q: %v", unit, err)
		}
	}
}

func TestFilter(t *testing.T) {
	r := &Record{Event: Event{Time: noon, Principal: "User:alice", Action: "topic.create", ResourceType: "topic", Resource: "orders.eu", Outcome: Allowed}}
	tests := []struct {
		f    Filter
		want bool
	}{
		{Filter{}, true},
		{Filter{Principal: "alice"}, true},
		{Filter{Principal: "User:alice"}, true},
		{Filter{Principal: "ali"}, false},
		{Filter{Action: "topic.*"}, true},
		{Filter{Action: "topic."}, false},
		{Filter{Action: "acl.*"}, false},
		{Filter{Resource: "orders.*"}, true},
		{Filter{Resource: "orders"}, false},
		{Filter{ResourceType: "group"}, false},
		{Filter{Outcome: Allowed}, true},
		{Filter{Outcome: Denied}, false},
		{Filter{Since: noon}, true},
		{Filter{Since: noon.Add(1)}, false},
		{Filter{Until: noon}, false},
		{Filter{Until: noon.Add(1)}, true},
	}
	for _, test := range tests {
		if got := test.f.Wants(r); got != test.want {
			t.Errorf("%+v: %v", test.f, got)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	b.Run("kind=left-out", func(b *testing.B) {
		l := New(Options{Node: 1, Policy: NewPolicy(ClassAdmin)})
		e := denial("orders")
		b.ReportAllocs()
		for b.Loop() {
			l.Record(e)
		}
	})
	b.Run("kind=folded", func(b *testing.B) {
		l := New(Options{Node: 1, Policy: NewPolicy(ClassDenied)})
		e := denial("orders")
		b.ReportAllocs()
		for b.Loop() {
			l.Record(e)
		}
	})
	b.Run("kind=written", func(b *testing.B) {
		l := started(&topic{}, nil)
		e := act("orders")
		b.ReportAllocs()
		for b.Loop() {
			l.Record(e)
		}
		b.StopTimer()
		_ = l.Close(context.Background())
	})
}
