package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// plan says what is left to read, by partition (nil without -e), and how to
// read it. It also says early that a topic is not there.
func (c *consume) plan(ctx context.Context, adm *kadm.Client) (map[int32]int64, []kgo.Opt, error) {
	quick, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	left, err := endsOf(quick, adm, c.topic)
	if err != nil {
		return nil, nil, err
	}
	opts := []kgo.Opt{kgo.ConsumeStartOffset(c.from.kafka())}
	if c.group != "" {
		opts = append(opts, kgo.ConsumeTopics(c.topic), kgo.ConsumerGroup(c.group), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second))
	}
	if !c.exit {
		if c.group == "" {
			opts = append(opts, kgo.ConsumeTopics(c.topic)) // partitions that are added later, too
		}
		return nil, opts, nil
	}
	opts = append(opts, kgo.KeepControlRecords(), // the last record may be one
		kgo.KeepRetryableFetchErrors()) // else what cannot be read looks like what is not there
	patient, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	starts, err := c.starts(patient, adm)
	if err == nil {
		err = c.shorten(patient, adm, left)
	}
	if err != nil {
		return nil, nil, err
	}
	if c.group != "" {
		if err := c.committed(patient, adm, starts); err != nil {
			return nil, nil, err
		}
	}
	c.begins = starts
	at := map[int32]kgo.Offset{}
	for p, end := range left {
		if starts[p] >= end {
			delete(left, p)
		} else {
			at[p] = kgo.NewOffset().At(starts[p])
		}
	}
	if c.group == "" {
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.topic: at}))
	}
	return left, opts, nil
}

// patience is how long the broker may take to say where a read begins: where it
// looks for a time, it may read from the bucket.
func (c *consume) patience() time.Duration { return max(pingTimeout, c.timeout) }

// endsOf returns the end of each partition.
func endsOf(ctx context.Context, adm *kadm.Client, topic string) (map[int32]int64, error) {
	listed, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, fmt.Errorf("there is no topic %s: produce to it first, or `rustmq admin topics create %s`", topic, topic)
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s ends: %w", topic, unanswered(err, pingTimeout))
	}
	return offsets(listed), nil
}

// unanswered says what it means that a question about offsets was not answered
// in time.
func unanswered(err error, d time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in %v (%w); the broker may be reading an ill bucket (`rustmq admin storage`): try again", d, err)
	}
	return err
}

// prepareEnd reads --until.
func (c *consume) prepareEnd(now time.Time) error {
	if c.end == "" {
		return nil
	}
	until, err := parseOffset("until", c.end, now)
	if err != nil {
		return err
	}
	if until.base == fromTime && until.n > now.UnixMilli() {
		return usage("--until %s is to come: records until then are not there yet; leave it out, and end with Ctrl-C or -n", c.end)
	}
	c.until, c.exit = &until, true
	return nil
}

// starts resolves -o for each partition.
func (c *consume) starts(ctx context.Context, adm *kadm.Client) (map[int32]int64, error) {
	return c.resolve(ctx, adm, c.from)
}

// shorten brings the ends of partitions to where --until points, if that is before them.
func (c *consume) shorten(ctx context.Context, adm *kadm.Client, ends map[int32]int64) error {
	if c.until == nil {
		return nil
	}
	at, err := c.resolve(ctx, adm, *c.until)
	for p, end := range ends {
		if where, is := at[p]; is {
			ends[p] = min(end, where)
		}
	}
	return err
}

// resolve says where f points to in each partition, from its start on.
func (c *consume) resolve(ctx context.Context, adm *kadm.Client, f from) (map[int32]int64, error) {
	listed, err := adm.ListStartOffsets(ctx, c.topic)
	if err == nil {
		err = listed.Error()
	}
	var ends, after kadm.ListedOffsets
	if err == nil && f.base == fromEnd {
		if ends, err = adm.ListEndOffsets(ctx, c.topic); err == nil {
			err = ends.Error()
		}
	}
	if err == nil && f.base == fromTime {
		if after, err = adm.ListOffsetsAfterMilli(ctx, f.n, c.topic); err == nil {
			err = after.Error()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask where %s starts: %w", c.topic, unanswered(err, c.patience()))
	}
	starts := offsets(listed)
	for p, start := range starts {
		at := start
		switch f.base {
		case fromStart:
			at = start + f.n
		case fromEnd:
			at = offsets(ends)[p] - f.n
		case fromOffset:
			at = f.n
		case fromTime:
			at = offsets(after)[p]
		}
		starts[p] = max(start, at)
	}
	return starts, nil
}

func offsets(listed kadm.ListedOffsets) map[int32]int64 {
	all := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { all[o.Partition] = o.Offset })
	return all
}

// kafka is the offset in franz-go's terms.
func (f from) kafka() kgo.Offset {
	o := kgo.NewOffset()
	switch f.base {
	case fromEnd:
		return o.AtEnd().Relative(-f.n)
	case fromOffset:
		return o.At(f.n)
	case fromTime:
		return o.AfterMilli(f.n)
	}
	return o.AtStart().Relative(f.n)
}

// committed puts into starts where the group goes on, for the partitions of which
// it has committed an offset.
func (c *consume) committed(ctx context.Context, adm *kadm.Client, starts map[int32]int64) error {
	committed, err := adm.FetchOffsets(ctx, c.group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // it is made when it is joined
		return fmt.Errorf("ask for the offsets of the group %s: %w", c.group, err)
	}
	for p := range starts {
		if o, ok := committed.Lookup(c.topic, p); ok && o.Err == nil && o.At >= 0 {
			starts[p] = o.At
		}
	}
	return nil
}

// settle drops from left what can no longer come: what was deleted from the
// start of the log, and what other members of the group have committed.
func (c *consume) settle(ctx context.Context, adm *kadm.Client, left map[int32]int64) error {
	listed, err := adm.ListStartOffsets(ctx, c.topic)
	if err != nil {
		return fmt.Errorf("ask for the start of %s: %w", c.topic, unanswered(err, c.patience()))
	}
	if err := listed.Error(); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return c.gone(err)
	}
	at := map[int32]int64{}
	if c.group != "" {
		for p := range left {
			at[p] = -1
		}
		if err := c.committed(ctx, adm, at); err != nil {
			return err
		}
	}
	starts := offsets(listed)
	maps.DeleteFunc(left, func(p int32, end int64) bool { return max(starts[p], at[p]) >= end })
	return nil
}

// compacted tells whether the topic may have holes before its end.
func (c *consume) compacted(ctx context.Context, adm *kadm.Client) bool {
	described, err := adm.DescribeTopicConfigs(ctx, c.topic)
	if err != nil {
		return false
	}
	for _, d := range described {
		for _, config := range d.Configs {
			if config.Key == "cleanup.policy" && config.Value != nil && strings.Contains(*config.Value, "compact") {
				return true
			}
		}
	}
	return false
}
