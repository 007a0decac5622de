package recovery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/roles/controller"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/batch"
	"rustmq.dev/rustmq/storage/bucket"
	"rustmq.dev/rustmq/storage/object"
)

// make makes a topic of one partition.
func (c *cluster) make(name string) storage.TopicID {
	c.t.Helper()
	result := c.CreateTopics(c.t.Context(), []controller.NewTopic{{Name: name, Partitions: 1, ReplicationFactor: 1, Internal: strings.HasPrefix(name, "__")}}, false)[0]
	must(c.t, result.Err)
	return result.ID
}

// commit uploads batches behind what the bucket has of a topic's partition; open: some
// transaction is open behind them.
func (c *cluster) commit(topic storage.TopicID, open bool, batches ...batch.Batch) {
	c.t.Helper()
	c.commitRange(topic, open, nil, nil, batches)
}

// commitWith is commit of batches with transactions that were aborted, and what is known of producers.
func (c *cluster) commitWith(topic storage.TopicID, aborted []object.Aborted, producers []byte, batches ...batch.Batch) {
	c.t.Helper()
	c.commitRange(topic, false, aborted, producers, batches)
}

func (c *cluster) commitRange(topic storage.TopicID, open bool, aborted []object.Aborted, producers []byte, batches []batch.Batch) {
	c.t.Helper()
	of := storage.PartitionID{Topic: topic}
	t, p := c.Image().Partition(of)
	base := p.CommittedEnd()
	end := base
	for _, b := range batches {
		batch.Stamp(b, end, p.LeaderEpoch)
		end = b.NextOffset()
	}
	r := object.Range{Partition: of, Topic: t.Name, Base: base, End: end, LastStable: end, Epochs: []object.EpochStart{{Epoch: p.LeaderEpoch, Start: base}}, Aborted: aborted, Producers: producers,
		Batches: func(yield func(batch.Batch) error) error {
			for _, b := range batches {
				if err := yield(b); err != nil {
					return err
				}
			}
			return nil
		}}
	if open {
		r.LastStable = base
	}
	id, err := c.PrepareObjects(c.t.Context(), 1, c.epoch, 1)
	must(c.t, err)
	var raw bytes.Buffer
	summary, err := object.Write(&raw, object.Header{Cluster: c.id, Incarnation: 1, ID: id, Broker: 1}, []object.Range{r}, object.WriteOptions{})
	must(c.t, err)
	must(c.t, c.bucket.Put(c.t.Context(), c.key(id), bucket.Bytes(raw.Bytes())))
	results, err := c.CommitObject(c.t.Context(), 1, c.epoch, id, summary.Size, []metadata.PartitionRange{{Partition: of, Range: metadata.NewRange(&summary.Placements[0], p.LeaderEpoch)}})
	must(c.t, errors.Join(append(results, err)...))
}

func built(t *testing.T, o batch.BuilderOptions, key, value []byte) batch.Batch {
	t.Helper()
	w := batch.NewBuilder(o)
	w.Add(time.Now().UnixMilli(), key, value)
	b, err := w.Build()
	must(t, err)
	return b
}

// sent is a record of a transaction.
func sent(t *testing.T, producer int64, epoch int16) batch.Batch {
	return built(t, batch.BuilderOptions{Producer: &batch.Producer{ID: producer, Epoch: epoch}, Transactional: true}, nil, []byte("v"))
}

func ends(producer int64, epoch int16, commit bool) batch.Batch {
	return endsAt(time.Now(), producer, epoch, commit)
}

// endsAt is ends by another clock.
func endsAt(at time.Time, producer int64, epoch int16, commit bool) batch.Batch {
	return batch.BuildMarker(at.UnixMilli(), producer, epoch, batch.Marker{Commit: commit})
}

// on is a record of the transaction log about partition 0 of topics.
func on(t *testing.T, id string, producer int64, epoch int16, state kmsg.TransactionState, topics ...string) batch.Batch {
	return onVersion(t, 0, id, producer, epoch, state, topics...)
}

// onVersion is on, of a transaction of that version.
func onVersion(t *testing.T, version int16, id string, producer int64, epoch int16, state kmsg.TransactionState, topics ...string) batch.Batch {
	k := kmsg.TxnMetadataKey{TransactionalID: id}
	v := kmsg.TxnMetadataValue{Version: 1, ProducerID: producer, ProducerEpoch: epoch, State: state, LastUpdateTimestamp: time.Now().UnixMilli(), StartTimestamp: time.Now().UnixMilli(), PreviousProducerID: -1, NextProducerID: -1, NextProducerEpoch: -1, ClientTransactionVersion: version}
	for _, topic := range topics {
		v.Topics = append(v.Topics, kmsg.TxnMetadataValueTopic{Topic: topic, Partitions: []int32{0}})
	}
	return built(t, batch.BuilderOptions{}, k.AppendTo(nil), v.AppendTo(nil))
}

// said is a list of torn transactions in one line each.
func said(torn []Torn) (lines []string) {
	for _, t := range torn {
		line := fmt.Sprintf("%s %d/%d:", t.TransactionalID, t.ProducerID, t.Epoch)
		for _, p := range t.Parts {
			line += fmt.Sprintf(" %s-%d@%d=%v", p.Topic, p.Partition, p.First, p.Whole)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

const (
	ongoing   = kmsg.TransactionStateOngoing
	committed = kmsg.TransactionStatePrepareCommit
	completed = kmsg.TransactionStateCompleteCommit
	aborted   = kmsg.TransactionStatePrepareAbort
)

// TestTornTransactionsAreListed (RULES 7): with the bucket alone, a transaction that the log or
// a marker says to be committed, and that lacks its end in a partition, is listed with what is
// there; one that is whole, aborted, or under way everywhere is not. Where a broker may have
// the rest, nothing is said.
func TestTornTransactionsAreListed(t *testing.T) {
	for name, is := range map[string]struct {
		log  func(t *testing.T) []batch.Batch
		u, v func(t *testing.T) []batch.Batch // what the bucket has of two topics; both have a whole transaction before
		open bool                             // at the end of v
		want []string
	}{
		"whole": {
			log: func(t *testing.T) []batch.Batch {
				return []batch.Batch{on(t, "x", 7, 3, ongoing, "u", "v"), on(t, "x", 7, 3, committed, "u", "v"), on(t, "x", 7, 3, completed)}
			},
			u: func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3), ends(7, 3, true)} },
			v: func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3), ends(7, 3, true)} },
		},
		"decided, without its end in one": {
			log: func(t *testing.T) []batch.Batch { return []batch.Batch{on(t, "x", 7, 3, committed, "u", "v")} },
			u:   func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3), ends(7, 3, true)} },
			v:   func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3)} }, open: true,
			want: []string{"x 7/3: u-0@-1=true v-0@2=false"},
		},
		"completed, without a record in one": {
			log: func(t *testing.T) []batch.Batch {
				return []batch.Batch{on(t, "x", 7, 3, committed, "u", "v"), on(t, "x", 7, 3, completed)}
			},
			u:    func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3), ends(7, 3, true)} },
			want: []string{"x 7/3: u-0@-1=true v-0@-1=false"},
		},
		"whole, by clocks that are behind": {
			log: func(t *testing.T) []batch.Batch {
				return []batch.Batch{onVersion(t, 2, "x", 7, 4, committed, "u", "v")}
			},
			u: func(t *testing.T) []batch.Batch {
				return []batch.Batch{sent(t, 7, 3), endsAt(time.Now().Add(-10*time.Second), 7, 4, true)}
			},
			v: func(t *testing.T) []batch.Batch {
				return []batch.Batch{sent(t, 7, 3), endsAt(time.Now().Add(-10*time.Second), 7, 4, true)}
			},
		},
		"decided, without its end in one, by clocks that are behind": {
			log: func(t *testing.T) []batch.Batch {
				return []batch.Batch{onVersion(t, 2, "x", 7, 4, committed, "u", "v")}
			},
			u: func(t *testing.T) []batch.Batch {
				return []batch.Batch{sent(t, 7, 3), endsAt(time.Now().Add(-10*time.Second), 7, 4, true)}
			},
			v: func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3)} }, open: true,
			want: []string{"x 7/4: u-0@-1=true v-0@2=false"},
		},
		"committed by a marker, the log lags": {
			log: func(t *testing.T) []batch.Batch { return []batch.Batch{on(t, "x", 7, 3, ongoing, "u", "v")} },
			u:   func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3), ends(7, 4, true)} },
			v:   func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3)} }, open: true,
			want: []string{"x 7/3: u-0@-1=true v-0@2=false"},
		},
		"under way": {
			log: func(t *testing.T) []batch.Batch { return []batch.Batch{on(t, "x", 7, 3, ongoing, "u", "v")} },
			v:   func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3)} }, open: true,
		},
		"aborted": {
			log: func(t *testing.T) []batch.Batch {
				return []batch.Batch{on(t, "x", 7, 3, ongoing, "u", "v"), on(t, "x", 7, 3, aborted, "u", "v")}
			},
			u: func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3), ends(7, 3, false)} },
			v: func(t *testing.T) []batch.Batch { return []batch.Batch{sent(t, 7, 3)} }, open: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, c *cluster) {
				log, u, v := c.make(transactionLog), c.make("u"), c.make("v")
				// One before, of the same producer and epoch.
				c.commit(log, false, on(t, "x", 7, 3, committed, "u", "v"))
				pass(time.Second)
				for _, topic := range []storage.TopicID{u, v} {
					c.commit(topic, false, sent(t, 7, 3), ends(7, 3, true))
				}
				pass(time.Minute)
				c.commit(log, false, is.log(t)...)
				pass(time.Second)
				if is.u != nil {
					c.commit(u, false, is.u(t)...)
				}
				if is.v != nil {
					c.commit(v, is.open, is.v(t)...)
				}
				c.shipped()
				p, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: []int32{}})
				must(t, errors.Join(err, p.UnknownTorn))
				if got := said(p.Torn); !slices.Equal(got, is.want) {
					t.Errorf("torn are %q, want %q", got, is.want)
				}
				if p := c.read(); len(p.Torn) > 0 || p.UnknownTorn != nil {
					t.Errorf("with a broker that may have the rest: %+v, %v", p.Torn, p.UnknownTorn)
				}
			})
		})
	}
}

// TestTornWhereTheBucketHolds: a partition whose acks waited for the bucket has all records
// of what was committed. Its marker is written by who has the decision; where that is lost
// and another partition has a marker, the transaction is torn there too.
func TestTornWhereTheBucketHolds(t *testing.T) {
	for state, want := range map[kmsg.TransactionState][]string{
		committed: nil,
		ongoing:   {"x 7/3: u-0@-1=true v-0@0=false"},
	} {
		in(t, func(t *testing.T, c *cluster) {
			log, u, v := c.make(transactionLog), c.makeHeld("u"), c.makeHeld("v")
			c.commit(log, false, on(t, "x", 7, 3, state, "u", "v"))
			pass(time.Second)
			c.commit(u, false, sent(t, 7, 3), ends(7, 3, true))
			c.commit(v, true, sent(t, 7, 3))
			c.shipped()
			p, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: []int32{}})
			must(t, errors.Join(err, p.UnknownTorn))
			if got := said(p.Torn); !slices.Equal(got, want) {
				t.Errorf("state %v: torn are %q, want %q", state, got, want)
			}
			p = c.read()
			if must(t, p.UnknownTorn); len(p.Torn) > 0 {
				t.Errorf("state %v, with a broker that may have the rest of the log: %+v", state, p.Torn)
			}
		})
	}
}

// TestRecoveryGoesOnWithoutTheListOfTorn: damage in what the list is made of does not hold it up.
func TestRecoveryGoesOnWithoutTheListOfTorn(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		log := c.make(transactionLog)
		c.commit(log, false, on(t, "x", 7, 3, committed, "t"))
		c.shipped()
		_, p := c.Image().Partition(storage.PartitionID{Topic: log})
		last, _ := p.Ranges().Last()
		raw, err := bucket.ReadAll(t.Context(), c.bucket, c.key(last.Object), 1<<20)
		must(t, err)
		raw[object.HeaderSize+80] ^= 1
		must(t, c.bucket.Put(t.Context(), c.key(last.Object), bucket.Bytes(raw)))
		plan, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: []int32{}})
		if err != nil || plan.UnknownTorn == nil || !strings.Contains(plan.UnknownTorn.Error(), c.key(last.Object)) {
			t.Errorf("%v, %v", plan, err)
		}
	})
}

// committedTo is a record of what a group has committed in partition 0 of a topic.
func committedTo(t *testing.T, o batch.BuilderOptions, group, topic string, to int64) batch.Batch {
	k := kmsg.OffsetCommitKey{Version: 1, Group: group, Topic: topic}
	v := kmsg.OffsetCommitValue{Version: 3, Offset: to, LeaderEpoch: -1}
	return built(t, o, k.AppendTo(nil), v.AppendTo(nil))
}

// TestCommittedOffsetsBehindTheEndAreListed (RULES 7): what groups have committed, in
// transactions too, and no record is left of.
func TestCommittedOffsetsBehindTheEndAreListed(t *testing.T) {
	in(t, func(t *testing.T, c *cluster) {
		offsets := c.make(offsetsTopic)
		c.upload(0, 10)
		plain := batch.BuilderOptions{}
		of := func(producer int64) batch.BuilderOptions {
			return batch.BuilderOptions{Producer: &batch.Producer{ID: producer}, Transactional: true}
		}
		c.commit(offsets, true,
			committedTo(t, plain, "at the end", "t", 10), committedTo(t, plain, "beyond", "t", 9), committedTo(t, plain, "beyond", "t", 12),
			committedTo(t, plain, "went back", "t", 12), committedTo(t, plain, "went back", "t", 3), committedTo(t, plain, "of no topic", "gone", 99),
			committedTo(t, of(1), "in a transaction", "t", 11), committedTo(t, of(2), "aborted", "t", 11), committedTo(t, of(3), "under way", "t", 11),
			ends(1, 0, true), ends(2, 0, false))
		c.shipped()
		p, err := Read(t.Context(), Options{Bucket: c.bucket, Prefix: "p", Cluster: c.id, Brokers: []int32{}})
		must(t, errors.Join(err, p.UnknownBeyond))
		want := []Beyond{{"beyond", "t", 0, 12, 10}, {"in a transaction", "t", 0, 11, 10}}
		if !slices.Equal(p.Beyond, want) {
			t.Errorf("%+v, want %+v", p.Beyond, want)
		}
		if p := c.read(); len(p.Beyond) > 0 {
			t.Errorf("with a broker that may have the rest: %+v", p.Beyond)
		}
	})
}
