package wasm

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"

	"rustmq.dev/rustmq/etl/abi"
)

// heard is what a module has said by its log and its counters.
type heard struct {
	mu       sync.Mutex // the next instance speaks too, while it is made
	lines    []string
	counters map[string]float64
}

func (h *heard) options() ModuleOptions {
	h.counters = map[string]float64{}
	return ModuleOptions{
		Instances: 1,
		Log: func(level slog.Level, text string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.lines = append(h.lines, level.String()+" "+text)
		},
		Metric: func(name string, delta float64) { h.counters[name] += delta },
	}
}

// said returns the lines since it was last asked.
func (h *heard) said() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	lines := h.lines
	h.lines = nil
	return lines
}

const (
	importLog    = `(import "rustmq" "log" (func $log (param i32 i32 i32)))`
	importMetric = `(import "rustmq" "metric_add" (func $metric_add (param i32 i32 f64)))`
)

func TestLog(t *testing.T) {
	var h heard
	g := guest{
		head: importLog,
		init: `(call $log (i32.const 2) (i32.const 0) (i32.const 5)) (i64.const 0)`,
		transform: `(local $i i32)
			(loop $levels
				(call $log (local.get $i) (i32.const 0) (i32.const 9))
				(br_if $levels (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 4))))
			(call $log (i32.const -7) (i32.const 0) (i32.const 2))
			(call $log (i32.const 99) (i32.const 0) (i32.const 2))
			(call $log (i32.const 1) (i32.const 262143) (i32.const 2))
			(call $log (i32.const 1) (i32.const 0) (i32.const -1))
			(call $log (i32.const 1) (i32.const 0) (i32.const 2000))
			(loop $flood
				(call $log (i32.const 1) (i32.const 0) (i32.const 1))
				(br_if $flood (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 104))))
			unreachable`,
		more: `(data (i32.const 0) "hello\ffaaa")`,
	}
	m := load(t, newRuntime(t, Options{}), g, h.options())
	if lines, want := h.said(), []string{"WARN hello"}; !reflect.DeepEqual(lines, want) {
		t.Errorf("said in init: %q", lines)
	}
	wantFailure(t, m, batch("a=b"), abi.Trap, "aborted")
	lines := h.said()
	want := []string{"DEBUG hello\uFFFDaaa", "INFO hello\uFFFDaaa", "WARN hello\uFFFDaaa", "ERROR hello\uFFFDaaa", "DEBUG he", "ERROR he"}
	if !reflect.DeepEqual(lines[:6], want) {
		t.Errorf("said: %q", lines[:6])
	}
	if n := len(lines[6]); n > maxLineBytes+30 || !strings.HasSuffix(lines[6], "…") {
		t.Errorf("a long line has %d bytes", n)
	}
	if n := len(lines); n < maxLines+1 || lines[maxLines] != "WARN 75 lines more were logged by one call and dropped: a call may log 32" {
		t.Errorf("a flood: %d lines, the last %q", n, lines[n-1])
	}
}

func TestMetrics(t *testing.T) {
	var h heard
	g := guest{
		head: importMetric,
		transform: `(local $i i32)
			(call $metric_add (i32.const 0) (i32.const 6) (f64.const 1.5))
			(call $metric_add (i32.const 0) (i32.const 6) (f64.const 2))
			(call $metric_add (i32.const 0) (i32.const 6) (f64.const -1))
			(call $metric_add (i32.const 0) (i32.const 6) (f64.const nan))
			(call $metric_add (i32.const 0) (i32.const 6) (f64.const inf))
			(call $metric_add (i32.const 0) (i32.const 8) (f64.const 1))
			(call $metric_add (i32.const 0) (i32.const 0) (f64.const 1))
			(call $metric_add (i32.const 6) (i32.const 1) (f64.const 1))
			(call $metric_add (i32.const 0) (i32.const 65) (f64.const 1))
			(call $metric_add (i32.const -1) (i32.const 2) (f64.const 1))
			(local.set $i (i32.const 65536)) ;; names in a value: of 2 bytes
			(loop $names
				(call $metric_add (i32.add (i32.load offset=56 (i32.const 65536)) (i32.sub (local.get $i) (i32.const 65536))) (i32.const 2) (f64.const 1))
				(br_if $names (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 2))) (i32.const 65736))))
			(i64.const 0)`,
		more: `(data (i32.const 0) "masked-A")`,
	}
	m := load(t, newRuntime(t, Options{}), g, h.options())
	for round := range 3 {
		names := ""
		for i := range 100 {
			names += fmt.Sprintf("%c%c", 'a'+i/10, 'a'+(i+round)%26)
		}
		if _, err := m.Transform(context.Background(), batch("k="+names)); err != nil {
			t.Fatal(err)
		}
	}
	if h.counters["masked"] != 3*3.5 {
		t.Errorf("counted %v", h.counters["masked"])
	}
	if len(h.counters) != maxCounters {
		t.Errorf("%d counters: %d may be", len(h.counters), maxCounters)
	}
	for name := range h.counters {
		if name != "masked" && len(name) != 2 {
			t.Errorf("counter %q", name)
		}
	}
}

// TestAllOfWASILinks imports every function of preview 1 with its type.
func TestAllOfWASILinks(t *testing.T) {
	all := wasiFunctions()
	if len(all) != 46 {
		t.Errorf("%d functions; preview 1 has 46", len(all))
	}
	var head strings.Builder
	for name, f := range all {
		params, results, _ := strings.Cut(f.kind, ":")
		fmt.Fprintf(&head, "(import %q %q (func", wasiModule, name)
		write := func(word, letters string) {
			for _, l := range letters {
				fmt.Fprintf(&head, " (%s %s)", word, map[rune]string{'i': "i32", 'I': "i64"}[l])
			}
		}
		write("param", params)
		write("result", results)
		head.WriteString("))\n")
	}
	load(t, newRuntime(t, Options{}), guest{head: head.String()}, ModuleOptions{})
}

// caller is a guest whose transform runs body, and returns its memory from 1024 on as
// the value of the first record.
func caller(body string, imports ...string) guest {
	var head strings.Builder
	for _, name := range imports {
		params, _, _ := strings.Cut(wasiFunctions()[name].kind, ":")
		fmt.Fprintf(&head, "(import %q %q (func $%s", wasiModule, name, name)
		for _, l := range params {
			head.WriteString(map[rune]string{'i': " (param i32)", 'I': " (param i64)"}[l])
		}
		head.WriteString(" (result i32)))\n")
	}
	return guest{head: head.String(), transform: body + `
		(i32.store (i32.const 8196) (i32.const 2))
		(i32.store (i32.const 8208) (i32.const 1024))
		(i32.store (i32.const 8212) (i32.const 256))
		(i64.const 0x200000000028)`}
}

// answer calls a caller, and returns what it has written.
func answer(t *testing.T, m *Module, b *abi.Batch) []byte {
	t.Helper()
	got, err := m.Transform(context.Background(), b)
	if err != nil {
		t.Fatal(err)
	}
	return got[0].Value
}

func TestClocksShowTheBatch(t *testing.T) {
	g := caller(`
		(drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 1024)))
		(drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1032)))
		;; sleep a second by the monotonic clock, beside a file that is none
		(i64.store (i32.const 512) (i64.const 77))
		(i32.store (i32.const 528) (i32.const 1))
		(i64.store (i32.const 536) (i64.const 1000000000))
		(i64.store (i32.const 560) (i64.const 78))
		(i32.store8 (i32.const 568) (i32.const 1))
		(i32.store (i32.const 1040) (call $poll_oneoff (i32.const 512) (i32.const 1056) (i32.const 2) (i32.const 1044)))
		(drop (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const 1048)))
		(drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1144)))
		;; until a second after that, by the same clock
		(i64.store (i32.const 536) (i64.add (i64.load (i32.const 1144)) (i64.const 1000000000)))
		(i32.store16 (i32.const 552) (i32.const 1))
		(drop (call $poll_oneoff (i32.const 512) (i32.const 256) (i32.const 1) (i32.const 300)))
		(i32.store16 (i32.const 552) (i32.const 0))
		(drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1152)))
		(drop (call $clock_res_get (i32.const 0) (i32.const 1120)))
		(i32.store (i32.const 1128) (call $clock_time_get (i32.const 0) (i64.const 1) (i32.const -4)))
		(i32.store (i32.const 1132) (call $poll_oneoff (i32.const 512) (i32.const 1056) (i32.const 0) (i32.const 1044)))
		(i32.store (i32.const 1136) (call $poll_oneoff (i32.const -4) (i32.const 1056) (i32.const 1) (i32.const 1044)))`,
		"clock_time_get", "poll_oneoff", "clock_res_get")
	m := load(t, newRuntime(t, Options{}), g, ModuleOptions{Instances: 1})
	le := binary.LittleEndian
	monotonic := int64(0)
	for _, now := range []int64{0, 1_700_000_000_123, 1_600_000_000_000, -1, 1<<63 - 1} {
		b := batch("a=b")
		b.Timestamp = now
		got := answer(t, m, b)
		want := min(max(now, 0), (1<<63-1)/2_000_000) * 1_000_000
		if ns := int64(le.Uint64(got)); ns != want {
			t.Errorf("the clock shows %d, and the batch is of %d ms", ns, now)
		}
		if ns := int64(le.Uint64(got[8:])); ns < monotonic || ns < want || ns == 0 {
			t.Errorf("the monotonic clock shows %d after %d", ns, monotonic)
		} else {
			monotonic = ns
		}
		if le.Uint32(got[16:]) != wasiOK || le.Uint32(got[20:]) != 2 {
			t.Errorf("poll: error %d, %d events", le.Uint32(got[16:]), le.Uint32(got[20:]))
		}
		if ns := int64(le.Uint64(got[24:])); ns != want+1_000_000_000 {
			t.Errorf("after a second, %d ns have passed", ns-want)
		}
		if first, second := int64(le.Uint64(got[120:])), int64(le.Uint64(got[128:])); first != monotonic+1_000_000_000 || second != first+1_000_000_000 {
			t.Errorf("the monotonic clock shows %d after a second, %d after another", first-monotonic, second-monotonic)
		} else {
			monotonic = second
		}
		if le.Uint64(got[32:]) != 77 || le.Uint16(got[40:]) != 0 || got[42] != 0 || le.Uint64(got[64:]) != 78 || le.Uint16(got[72:]) != wasiBadFile || got[74] != 1 {
			t.Errorf("events % x", got[32:96])
		}
		if le.Uint64(got[96:]) != 1_000_000 || le.Uint32(got[104:]) != wasiFault || le.Uint32(got[108:]) != wasiInvalid || le.Uint32(got[112:]) != wasiFault {
			t.Errorf("resolution and errors % x", got[96:116])
		}
	}
}

// TestRandomNumbersAreOfTheBatch: alike from every fresh instance, other for another batch.
func TestRandomNumbersAreOfTheBatch(t *testing.T) {
	g := caller(`
		(drop (call $random_get (i32.const 1024) (i32.const 32)))
		(drop (call $random_get (i32.const 1056) (i32.const 32)))
		(i32.store (i32.const 1088) (call $random_get (i32.const 65536) (i32.const 0x100001)))
		(i32.store (i32.const 1092) (call $random_get (i32.const 0) (i32.const 0xfffff)))`, "random_get")
	r := newRuntime(t, Options{})
	a, b := load(t, r, g, ModuleOptions{}), load(t, r, g, ModuleOptions{Name: "other"})
	first := answer(t, a, batch("a=b"))
	if got := answer(t, a, batch("a=b")); !reflect.DeepEqual(got[:64], first[:64]) {
		t.Error("the same batch has other random numbers")
	}
	if got := answer(t, b, batch("a=b")); !reflect.DeepEqual(got, first) {
		t.Error("the same batch has other random numbers in another instance")
	}
	if string(first[:32]) == string(first[32:64]) {
		t.Error("random numbers repeat")
	}
	if e := binary.LittleEndian.Uint32(first[64:]); e != wasiInvalid {
		t.Errorf("more than 1 MiB: error %d", e)
	}
	if e := binary.LittleEndian.Uint32(first[68:]); e != wasiFault {
		t.Errorf("outside of the memory: error %d", e)
	}
	for _, change := range []func(*abi.Batch){
		func(b *abi.Batch) { b.Timestamp++ }, func(b *abi.Batch) { b.Partition++ }, func(b *abi.Batch) { b.Topic += "s" },
		func(b *abi.Batch) { b.Records[0].Offset++ }, func(b *abi.Batch) { b.Records = append(b.Records, b.Records[0]) },
	} {
		other := batch("a=b")
		change(other)
		got, err := a.Transform(context.Background(), other)
		if len(other.Records) > 1 { // which needs two decisions
			if err == nil {
				t.Error("40 bytes for two records")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if string(got[0].Value[:32]) == string(first[:32]) {
			t.Error("another batch has the same random numbers")
		}
	}
}

func TestWhatIsNotGranted(t *testing.T) {
	g := caller(`
		(i32.store (i32.const 1024) (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))
		(i32.store (i32.const 1028) (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 8)))
		(i32.store (i32.const 1032) (call $fd_prestat_get (i32.const 3) (i32.const 8)))
		(i32.store (i32.const 1036) (call $fd_read (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))
		(i32.store (i32.const 1040) (call $fd_write (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8)))
		(i64.store (i32.const 16) (i64.const -1))
		(i32.store (i32.const 1044) (call $args_sizes_get (i32.const 16) (i32.const 20)))
		(i64.store (i32.const 1048) (i64.load (i32.const 16)))
		(i32.store (i32.const 1056) (call $environ_sizes_get (i32.const -1) (i32.const 20)))
		(i32.store (i32.const 1060) (call $sched_yield))
		(i32.store (i32.const 1064) (call $fd_fdstat_get (i32.const 1) (i32.const 1072)))
		(i32.store (i32.const 1068) (call $fd_fdstat_get (i32.const 0) (i32.const 1072)))`,
		"path_open", "sock_accept", "fd_prestat_get", "fd_read", "fd_write", "args_sizes_get", "environ_sizes_get", "sched_yield", "fd_fdstat_get")
	got := answer(t, load(t, newRuntime(t, Options{}), g, ModuleOptions{}), batch("a=b"))
	want := []uint32{wasiNoSys, wasiNoSys, wasiBadFile, wasiNoSys, wasiBadFile, wasiOK, 0, 0, wasiFault, wasiOK, wasiOK, wasiBadFile, 2}
	for i, w := range want {
		if v := binary.LittleEndian.Uint32(got[4*i:]); v != w {
			t.Errorf("answer %d is %d, want %d", i, v, w)
		}
	}
}

func TestWhatIsWrittenIsLogged(t *testing.T) {
	var h heard
	g := caller(`
		(i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 516) (i32.const 8))
		(i32.store (i32.const 520) (i32.const 8)) (i32.store (i32.const 524) (i32.const 7))
		(i32.store (i32.const 1024) (call $fd_write (i32.const 1) (i32.const 512) (i32.const 2) (i32.const 1028)))
		(i32.store (i32.const 1032) (call $fd_write (i32.const 2) (i32.const 520) (i32.const 1) (i32.const 1036)))
		(i32.store (i32.const 528) (i32.const 65536)) (i32.store (i32.const 532) (i32.const -1))
		(i32.store (i32.const 1040) (call $fd_write (i32.const 2) (i32.const 528) (i32.const 1) (i32.const 1044)))
		(i32.store (i32.const 1048) (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1025) (i32.const 1044)))
		;; a line of 64 KiB, and then some
		(i32.store (i32.const 532) (i32.const 65536))
		(i32.store (i32.const 1052) (call $fd_write (i32.const 1) (i32.const 528) (i32.const 1) (i32.const 1056)))
		(i32.store (i32.const 1060) (call $fd_write (i32.const 1) (i32.const 512) (i32.const 2) (i32.const 1028)))`, "fd_write")
	g.more = `(data (i32.const 0) "one\ntwo three\nfo")`
	m := load(t, newRuntime(t, Options{}), g, h.options())
	got := answer(t, m, batch("a=b"))
	want := []uint32{wasiOK, 15, wasiOK, 7, wasiFault, 0, wasiInvalid, wasiOK, 65536, wasiOK}
	for i, w := range want {
		if v := binary.LittleEndian.Uint32(got[4*i:]); v != w {
			t.Errorf("answer %d is %d, want %d", i, v, w)
		}
	}
	lines := h.said()
	if len(lines) != 5 {
		t.Fatalf("lines %q", lines)
	}
	if w := []string{"INFO one", "INFO two three", "WARN three"}; !reflect.DeepEqual(lines[:3], w) {
		t.Errorf("lines %q, want %q first", lines[:3], w)
	}
	if lines[4] != "WARN f" || len(lines[3]) > maxLineBytes+40 || !strings.HasPrefix(lines[3], "INFO f") {
		t.Errorf("unfinished lines %q, %d bytes, and %q", lines[3][:10], len(lines[3]), lines[4])
	}
}

// TestPanicsAreTold: what a guest says before it aborts is in the failure.
func TestPanicsAreTold(t *testing.T) {
	g := caller(`
		(i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 516) (i32.const 28))
		(drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 1028)))
		(call $proc_exit (i32.const 2))`, "fd_write")
	g.head += `(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))`
	g.more = `(data (i32.const 0) "panic: no such thing\n\n\ttrace")`
	m := load(t, newRuntime(t, Options{}), g, ModuleOptions{})
	wantFailure(t, m, batch("a=b"), abi.Exit, "rustmq_transform called proc_exit(2): panic: no such thing   trace")
	g.transform = strings.Replace(g.transform, "(call $proc_exit (i32.const 2))", "unreachable", 1)
	m = load(t, newRuntime(t, Options{}), g, ModuleOptions{})
	wantFailure(t, m, batch("a=b"), abi.Trap, ": panic: no such thing   trace")
}
