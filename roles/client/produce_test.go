package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestProduceSendsLines(t *testing.T) {
	_, addr := broker(t)
	_, stderr := rustmq(t, "a\n\nno newline at the end", "produce", "lines", "-b", addr)
	if stderr != "3 records acked by every replica in sync: lines partition 0, offsets 0 to 2\n" {
		t.Errorf("said %q", stderr)
	}
	for i, r := range records(t, addr, "lines", 3) {
		if want := []string{"a", "", "no newline at the end"}[i]; string(r.Value) != want || r.Value == nil || r.Key != nil {
			t.Errorf("record %d is %q of key %q, want %q", i, r.Value, r.Key, want)
		}
	}
	if _, stderr := rustmq(t, "", "produce", "lines", "-b", addr); stderr != "" {
		t.Errorf("nothing was sent, and said %q", stderr)
	}
}

func TestProduceFlags(t *testing.T) {
	_, addr := broker(t)
	for i, c := range []struct {
		flags, line, key, value, headers string
		partition                        int32
	}{
		{"-p 1 -k key -H a=1 -H b=2=3", "v", "key", "v", "a=1 b=2=3 ", 1},
		{"--key-field net -p 0", `{"net":"us","mag":5}`, "us", `{"net":"us","mag":5}`, "", 0},
		{"--key-field mag -p 0", `{"net":"us","mag":5.0}`, "5.0", `{"net":"us","mag":5.0}`, "", 0},
		{"--key-field net -p 0", `{"net":null}`, "", `{"net":null}`, "", 0},
		{"-f %p:%k=%v{hex}", "1:k=6869", "k", "hi", "", 1},
		{"-f json -p 1 -H c=d", `{"key":"k","value":"v","headers":[{"key":"a","value":"b"}]}`, "k", "v", "a=b c=d ", 1},
		{"-Z -p 0", "", "", "", "", 0},
		{"-z gzip -p 0 --acks 1", strings.Repeat("x", 1000), "", strings.Repeat("x", 1000), "", 0},
		{"--max-message-bytes 3000000 -p 0", strings.Repeat("y", 2<<20), "", strings.Repeat("y", 2<<20), "", 0},
	} {
		topic := fmt.Sprint("flags", i)
		rustmq(t, "x\n", "produce", topic+"-warm", "-b", addr) // made on first use
		rustmqTopic(t, addr, topic)
		_, stderr := rustmq(t, c.line+"\n", append([]string{"produce", topic, "-b", addr}, strings.Fields(c.flags)...)...)
		if !strings.HasPrefix(stderr, "1 record acked") {
			t.Errorf("%s: %s", c.flags, stderr)
		}
		r := records(t, addr, topic, 1)[0]
		var headers strings.Builder
		for _, h := range r.Headers {
			fmt.Fprintf(&headers, "%s=%s ", h.Key, h.Value)
		}
		if string(r.Key) != c.key || string(r.Value) != c.value || headers.String() != c.headers || r.Partition != c.partition {
			t.Errorf("%s: partition %d, key %q, headers %q, value %.40q", c.flags, r.Partition, r.Key, headers.String(), r.Value)
		}
		if strings.Contains(c.flags, "-Z") && r.Value != nil {
			t.Errorf("an empty value was sent with -Z")
		}
	}
}

func TestProduceWithoutAcksDoesNotClaimThem(t *testing.T) {
	_, addr := broker(t)
	if _, stderr := rustmq(t, "a\nb\n", "produce", "t", "-b", addr, "--acks", "0"); stderr != "2 records sent to t; no ack was asked for: they can be lost\n" {
		t.Errorf("said %q", stderr)
	}
}

func TestProduceFailsAtTheLineThatIsWrong(t *testing.T) {
	_, addr := broker(t)
	for _, c := range []struct{ stdin, flags, want string }{
		{"{\"k\":1}\n{\n", "--key-field k", "line 2: --key-field k: the record is no JSON object"},
		{"{\"k\":1}\n{}\n", "--key-field k", "line 2: --key-field k: the record has no such field"},
		{"a\tb\nc\n", `-f %k\t%v`, `line 2: the line does not fit --format: "\t" was expected in "c"`},
		{"{\"value\":\"a\"}\n{\"vaule\":\"a\"}\n", "-f json", "line 2: -f json"},
		{"{\"value\":\"a\"}\n\n", "-f json", "line 2: -f json: the line is empty"},
		{"{\"value\":\"a\"}\n{\"value\":\"b\"}}\n", "-f json", "line 2: -f json: there is more than an object on the line"},
		{"{\"value\":\"a\"}\n{\"value\":\"b\"}]\n", "-f json", "line 2: -f json: there is more than an object on the line"},
		{"{\"value\":\"a\"}\nnull\n", "-f json", "line 2: -f json wants an object a line"},
		{"a=b\n=\nc\n", "-f %k=%v", "line 3: the line does not fit --format"},
	} {
		w := newWorld(c.stdin)
		err := w.run(t.Context(), append([]string{"produce", "t", "-b", addr}, strings.Fields(c.flags)...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(w.stderr.String(), " acked by every") {
			t.Errorf("%s of %q: %v, %s", c.flags, c.stdin, err, w.stderr)
		}
	}
}

// TestProduceSaysWhatWasNotAcked has a broker that refuses.
func TestProduceSaysWhatWasNotAcked(t *testing.T) {
	c, addr := broker(t)
	for code, want := range map[*kerr.Error]string{
		kerr.MessageTooLarge: "max.message.bytes", kerr.TopicAuthorizationFailed: "; a rule has to allow it: rustmq admin acl create --principal ANONYMOUS --resource topic.t --permissions write",
		kerr.InvalidRecord: "or a module refuses what comes", kerr.InvalidTopicException: "249",
	} {
		c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			in := req.(*kmsg.ProduceRequest)
			resp := in.ResponseKind().(*kmsg.ProduceResponse)
			for _, topic := range in.Topics {
				rt := kmsg.NewProduceResponseTopic()
				rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
				for _, partition := range topic.Partitions {
					rp := kmsg.NewProduceResponseTopicPartition()
					rp.Partition, rp.ErrorCode = partition.Partition, code.Code
					rt.Partitions = append(rt.Partitions, rp)
				}
				resp.Topics = append(resp.Topics, rt)
			}
			return resp, nil, true
		})
		err := fails(t, "a\n", "produce", "t", "-b", addr)
		if !strings.Contains(err.Error(), "1 record was not acked, the first from line 1: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", code, err)
		}
	}
	if err := fails(t, strings.Repeat("x", 2<<20)+"\n", "produce", "t", "-b", addr); !strings.Contains(err.Error(), "--max-message-bytes") {
		t.Errorf("too long a line: %v", err)
	}
	if err := fails(t, "x\n", "produce", "t", "-b", addr, "-p", "7"); !strings.Contains(err.Error(), "1 record was not acked") {
		t.Errorf("no such partition: %v", err)
	}
}

func TestProduceToUnknownTopicSaysHowToMakeIt(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := fails(t, "x\n", "produce", "nowhere", "-b", c.ListenAddrs()[0]); !strings.Contains(err.Error(), "rustmq admin topics create nowhere") {
		t.Error(err)
	}
}

// TestInterruptDoesNotWaitForInput holds that Ctrl-C ends a produce that waits
// for a line, with all it has read acked.
func TestInterruptDoesNotWaitForInput(t *testing.T) {
	_, addr := broker(t)
	ctx, interrupt := context.WithCancel(t.Context())
	in, typed := io.Pipe()
	w := newWorld("")
	w.stdin = in
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx, "produce", "t", "-b", addr) }()
	if _, err := io.WriteString(typed, "one\n"); err != nil {
		t.Fatal(err)
	}
	records(t, addr, "t", 1)
	interrupt()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "interrupted after line 1") || !strings.HasPrefix(w.stderr.String(), "1 record acked") {
			t.Errorf("%v, %s", err, w.stderr)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on waiting")
	}
	_ = typed.CloseWithError(errors.New("the test is over")) // the reading goroutine ends
}

func TestLongLineIsRefused(t *testing.T) {
	lines := readLines(io.MultiReader(strings.NewReader("short\n"), endless{}), nil)
	if l := <-lines; string(l.text) != "short" || l.err != nil {
		t.Fatalf("%q, %v", l.text, l.err)
	}
	if l := <-lines; l.err == nil || !strings.Contains(l.err.Error(), "longer than 64 MiB") {
		t.Fatalf("%d bytes, %v", len(l.text), l.err)
	}
	if _, more := <-lines; more {
		t.Fatal("it reads on")
	}
}

// endless is a line without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestProduceGivesUp holds that a record which was sent and never answered ends
// the command after --timeout: the client alone would wait for ever, as it
// cannot know whether the record was written.
func TestProduceGivesUp(t *testing.T) {
	t.Parallel()
	c, addr := broker(t)
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		return nil, errors.New("the connection breaks"), true
	})
	if err := fails(t, "hello\n", "produce", "t", "-b", addr, "--timeout", "1s"); !errors.Is(err, kgo.ErrRecordTimeout) || !strings.Contains(err.Error(), "may have been written or not") {
		t.Error(err)
	}
}
