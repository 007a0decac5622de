package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// check runs the second half of verify, and returns what it found.
func check(t *testing.T, flags ...string) (verdict, error) {
	t.Helper()
	w := newWorld("")
	err := w.run(t.Context(), append([]string{"verify", "--phase", "check", "-o", "json"}, flags...)...)
	var out verdict
	if jsonErr := json.Unmarshal([]byte(w.stdout.String()), &out); jsonErr != nil {
		t.Fatalf("%v: %s %v", err, w.stdout, jsonErr)
	}
	return out, err
}

func TestVerifySoundBroker(t *testing.T) {
	_, addr := broker(t)
	stdout, stderr := rustmq(t, "", "verify", "-b", addr, "-n", "1000", "--size", "50", "--partitions", "3")
	if stdout != "1000 acked, 1000 read: 0 lost, 0 diverged, 0 duplicated, 0 reordered, 0 gaps (0 there without an ack)\n" || !strings.HasPrefix(stderr, "1000 of 1000 records acked in ") {
		t.Errorf("%s%s", stdout, stderr)
	}
	topics, err := admin(t, addr).ListTopics(t.Context())
	if err != nil || len(topics.Names()) != 1 {
		t.Errorf("left behind: %v, %v", topics.Names(), err)
	}
}

// A broker of a cluster may hear of a topic after the one that made it.
func TestVerifyWaitsForItsTopic(t *testing.T) {
	c, addr := broker(t)
	asked := 0
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		in := req.(*kmsg.MetadataRequest)
		if len(in.Topics) == 0 || asked == 2 {
			return nil, nil, false
		}
		asked++
		resp := in.ResponseKind().(*kmsg.MetadataResponse)
		for _, topic := range in.Topics {
			unknown := kmsg.NewMetadataResponseTopic()
			unknown.Topic, unknown.ErrorCode = topic.Topic, kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, unknown)
		}
		return resp, nil, true
	})
	if stdout, _ := rustmq(t, "", "verify", "-b", addr, "-n", "10", "--partitions", "3"); !strings.HasPrefix(stdout, "10 acked, 10 read: 0 lost") {
		t.Error(stdout)
	}
	if asked != 2 {
		t.Errorf("asked %d times while nothing was known", asked)
	}
}

func TestVerifyInPhases(t *testing.T) {
	_, addr := broker(t)
	flags := []string{"-b", addr, "--topic", "v", "--state", filepath.Join(t.TempDir(), "acks"), "-n", "100"}
	for range 3 {
		rustmq(t, "", append([]string{"verify", "--phase", "produce"}, flags...)...)
	}
	if out, err := check(t, flags...); err != nil || out.Acked != 300 || out.Read != 300 || out.Foreign != 0 || out.Unacked != 0 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestVerifyFindsABrokerThatLoses has one that acks a batch and forgets it.
func TestVerifyFindsABrokerThatLoses(t *testing.T) {
	c, addr := broker(t)
	flags := []string{"-b", addr, "--topic", "v", "--state", filepath.Join(t.TempDir(), "acks"), "-n", "10", "--partitions", "1"}
	rustmq(t, "", append([]string{"verify", "--phase", "produce"}, flags...)...)
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		in := req.(*kmsg.ProduceRequest)
		resp := in.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range in.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.BaseOffset = partition.Partition, 10
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	const lost = 1 // as few as fit one batch for sure
	flags = append(flags, "-n", "1")
	rustmq(t, "", append([]string{"verify", "--phase", "produce"}, flags...)...)
	out, err := check(t, flags...)
	if err == nil || !strings.Contains(err.Error(), "a promise is broken") || out.Lost != lost || out.Acked != 11 || len(out.Examples) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestVerifyFindsADouble sends a record of the load again, as a broker would
// that forgets its producers.
func TestVerifyFindsADouble(t *testing.T) {
	_, addr := broker(t)
	flags := []string{"-b", addr, "--topic", "v", "--state", filepath.Join(t.TempDir(), "acks"), "-n", "10", "--partitions", "1"}
	rustmq(t, "", append([]string{"verify", "--phase", "produce"}, flags...)...)
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("v"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: records(t, addr, "v", 10)[3].Value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if out, err := check(t, flags...); err == nil || out.Duplicated != 1 || out.Lost+out.Diverged+out.Gaps != 0 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestVerifyFindsDeletedRecords holds that a log whose start moved, or which is
// empty, is judged and not waited for.
func TestVerifyFindsDeletedRecords(t *testing.T) {
	_, addr := broker(t)
	flags := []string{"-b", addr, "--topic", "v", "--state", filepath.Join(t.TempDir(), "acks"), "-n", "10", "--partitions", "1"}
	rustmq(t, "", append([]string{"verify", "--phase", "produce"}, flags...)...)
	for _, c := range []struct{ to, lost int64 }{{4, 4}, {10, 10}} {
		if _, err := admin(t, addr).DeleteRecords(t.Context(), kadm.Offsets{"v": {0: {Topic: "v", At: c.to}}}); err != nil {
			t.Fatal(err)
		}
		if out, err := check(t, flags...); err == nil || out.Lost != c.lost || out.Gaps != 1 {
			t.Errorf("up to %d: %+v, %v", c.to, out, err)
		}
	}
}

// TestVerifySurvivesARestart loads a broker that goes away and comes back with
// its data, and one that comes back without.
func TestVerifySurvivesARestart(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{true, false} {
		dir := t.TempDir()
		start := func(ports ...int) *kfake.Cluster {
			opts := []kfake.Opt{kfake.NumBrokers(1), kfake.Ports(ports...), kfake.SeedTopics(1, "v")}
			if keep {
				opts = append(opts, kfake.DataDir(dir), kfake.SyncWrites())
			}
			c, err := kfake.NewCluster(opts...)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := start(0)
		addr := c.ListenAddrs()[0]
		flags := []string{"-b", addr, "--topic", "v", "--state", filepath.Join(t.TempDir(), "acks"), "--timeout", "20s"}
		ctx, interrupt := context.WithCancel(t.Context())
		w := newWorld("")
		ended := make(chan error, 1)
		go func() {
			ended <- w.run(ctx, append([]string{"verify", "--phase", "produce", "-n", "10000000"}, flags...)...)
		}()
		records(t, addr, "v", 1000)
		c.Close()
		interrupt()
		if err := <-ended; err != nil {
			t.Fatalf("an interrupt while the broker is down ended the load with %v", err)
		}
		_, port, _ := strings.Cut(addr, ":")
		var number int
		if err := json.Unmarshal([]byte(port), &number); err != nil {
			t.Fatal(err)
		}
		c = start(number)
		out, err := check(t, flags...)
		c.Close()
		if out.Acked < 1000 || (err == nil) != keep || (out.Lost > 0) == keep {
			t.Errorf("data kept: %v, %+v, %v", keep, out, err)
		}
	}
}

// TestVerifyGivesUp holds that a load ends when the broker is gone for longer
// than --timeout, and says so.
func TestVerifyGivesUp(t *testing.T) {
	t.Parallel()
	c, addr := broker(t)
	// A client has at most five requests under way: by then most are acked.
	const enough = 20
	var requests atomic.Int64
	loaded := make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if requests.Add(1) == enough {
			close(loaded)
		}
		return nil, nil, false
	})
	state := filepath.Join(t.TempDir(), "acks")
	ended := make(chan error, 1)
	go func() {
		ended <- newWorld("").run(t.Context(), "verify", "--phase", "produce", "-b", addr, "--topic", "v", "--state", state, "--timeout", "5s", "-n", "100000000", "--partitions", "1")
	}()
	select {
	case <-loaded:
	case err := <-ended:
		t.Fatalf("the load ended before its broker: %v", err)
	}
	c.Close()
	if err := <-ended; !errors.Is(err, errNoAck) || !strings.Contains(err.Error(), state) {
		t.Error(err)
	}
	if acks, err := loadAcks(state); err != nil || len(acks[0]) == 0 {
		t.Errorf("%d acks are remembered, %v", len(acks[0]), err)
	}
}

// TestInterruptedVerifyFails holds that who looks at the exit code does not take
// what was not checked for good. Half a load is ended by an interrupt.
func TestInterruptedVerifyFails(t *testing.T) {
	for phase, want := range map[string]string{"all": "interrupted: nothing was checked", "produce": ""} {
		c, addr := broker(t)
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			interrupt()
			return nil, nil, false
		})
		w := newWorld("")
		err := w.run(ctx, "verify", "-b", addr, "-n", "100", "--phase", phase, "--topic", "t", "--state", filepath.Join(t.TempDir(), "acks"))
		if said := fmt.Sprint(err); (want == "" && err != nil) || (want != "" && said != want) {
			t.Errorf("--phase %s: %v, want %q", phase, err, want)
		}
	}
}
