package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rustmq.dev/rustmq/roles/broker"
	"rustmq.dev/rustmq/security/acl"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// Limits of a tail, which shows a person what comes, and is not to become a way to consume.
const (
	maxTails          = 32  // at once, of this process: more than one caller has streams
	maxTailPartitions = 100 // of one
	defaultTailRate   = 50
	tailBytes         = 256 << 10 // of keys, values and headers of one look

	// tailEvery is the time between two looks.
	tailEvery = 500 * time.Millisecond
	// tailPatience is how long a partition may be behind its end, where it was there once:
	// then what lies between is passed over, and that is said.
	tailPatience = 3 * time.Second
)

// MatchQuery says which records are shown.
type MatchQuery struct {
	Key    string `query:"key" maxLength:"1000" doc:"only records whose key has this text in it"`
	Value  string `query:"value" maxLength:"1000" doc:"only records whose value has this text in it"`
	Header string `query:"header" maxLength:"1000" doc:"only records that have a header of this name; NAME=TEXT: one whose value has the text in it"`
}

// match is that for brokers, which compare bytes, whatever they are.
func (q *MatchQuery) match() (m broker.PeekMatch) {
	name, with, _ := strings.Cut(q.Header, "=")
	m.Key, m.Value, m.Header, m.With = []byte(q.Key), []byte(q.Value), []byte(name), []byte(with)
	return m
}

type tailInput struct {
	Name       string    `path:"name" maxLength:"249"`
	Partitions string    `query:"partitions" maxLength:"1000" doc:"numbers and ranges, as 0,3-5; left out: all, of which there may be 100"`
	From       string    `query:"from" enum:"start,end" default:"end" doc:"where to begin: at the log start, or at the end; offset, time and at go before it"`
	Offset     int64     `query:"offset" minimum:"-1" default:"-1" doc:"offset to begin at, in each partition; -1: as from says"`
	Time       time.Time `query:"time" doc:"RFC 3339: begin at the first record that is not older"`
	At         string    `query:"at" maxLength:"4000" doc:"go on where an event ended, by its id, which is partition:offset of each"`
	MatchQuery
	Rate        int    `query:"rate" minimum:"1" maximum:"500" default:"50" doc:"records a second that are sent at most; of a partition that stays behind for it, what lies before its end is passed over"`
	LastEventID string `header:"Last-Event-ID" maxLength:"4000" doc:"as at, before which it goes: what an EventSource sends that connects again"`
}

// What a tail sends, each by the name of its event.
type (
	// tailBegin is sent first, as begin.
	tailBegin struct {
		Topic      string          `json:"topic"`
		Partitions []tailPartition `json:"partitions"`
	}
	tailPartition struct {
		Partition     int32 `json:"partition"`
		At            int64 `json:"at"` // where it begins; -1: where a time says
		LogStart      int64 `json:"log_start"`
		HighWatermark int64 `json:"high_watermark"`
	}
	// tailRecords is one look, as records: also such as found nothing, which say how far it is.
	tailRecords struct {
		Partition     int32     `json:"partition"`
		LogStart      int64     `json:"log_start"`
		HighWatermark int64     `json:"high_watermark"`
		Next          int64     `json:"next"`
		Looked        int       `json:"looked"` // records read, that the filter does not take too
		Records       []Message `json:"records"`
	}
	// tailSkipped is offsets [From, To) that are not shown, as skipped.
	tailSkipped struct {
		Partition int32  `json:"partition"`
		From      int64  `json:"from"`
		To        int64  `json:"to"`
		Why       string `json:"why"`
	}
	// tailTrouble is why a partition shows nothing now, as trouble; "": it does again.
	tailTrouble struct {
		Partition int32  `json:"partition"`
		Detail    string `json:"detail"`
	}
	// tailGone is why there will be no more of the topic, as gone.
	tailGone struct {
		Detail string `json:"detail"`
	}
)

// tailAPI follows topics.
type tailAPI struct {
	cluster  Cluster
	messages Messages
	holdings Holdings
	places   chan struct{} // holds a token for each tail that is under way
}

func newTailAPI(c Cluster, m Messages, h Holdings) tailAPI {
	return tailAPI{c, m, h, make(chan struct{}, maxTails)}
}

// tailed is a partition of a tail.
type tailed struct {
	index      int32
	at         int64  // next offset; -1: where from says
	from       string // as of [broker.PeekRequest]
	value      int64
	start, end int64     // of the log, as its leader said last
	live       bool      // it was at its end once
	behind     time.Time // since when it is not, of what is live; zero: it is
	unknown    string    // why its leader does not say where it is; "": it does
	failed     string    // why the last look failed; "": it did not
	told       string    // of these
}

// tail is one under way. It is for one goroutine.
type tail struct {
	tailAPI
	topic string
	id    storage.TopicID
	match broker.PeekMatch
	quota int // records of one turn
	parts []tailed
	first int // that is asked first, so that none waits for the others for ever
	send  sender
}

func registerTail(h *routes, a tailAPI) {
	stream(h, "/api/v1/topics/{name}/tail", to(func(in *tailInput) string { return in.Name }, need{acl.Read, acl.Topic}).noting("events of the types begin, records, skipped, trouble and gone; no offset is committed"), a.open)
}

// open says what a tail follows, or why there is none.
func (a tailAPI) open(_ context.Context, in *tailInput) (func(context.Context, sender) error, error) {
	t, err := a.tail(in)
	if err != nil {
		return nil, err
	}
	return t.follow, nil
}

// follow sends what comes into the topic until ctx ends, the topic is gone, or nobody takes it.
func (t *tail) follow(ctx context.Context, send sender) error {
	select {
	case t.places <- struct{}{}:
		defer func() { <-t.places }()
	default:
		if !guard.Check("admin.tails", false) {
			return fmt.Errorf("%d live tails run on this server, which is all there may be: close another", maxTails)
		}
	}
	t.send = send
	t.survey(ctx)
	if err := t.begin(); err != nil {
		return err
	}
	ticker := time.NewTicker(tailEvery)
	defer ticker.Stop()
	for {
		if gone := t.gone(); gone != "" {
			return t.send("gone", "", tailGone{gone})
		}
		if err := t.turn(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		t.survey(ctx)
	}
}

// tail reads what is to be followed, from where.
func (a tailAPI) tail(in *tailInput) (*tail, error) {
	topic, ok := a.cluster.Image().Topic(in.Name)
	if !ok {
		return nil, unknownTopic(in.Name)
	}
	t := &tail{tailAPI: a, topic: in.Name, id: topic.ID, match: in.match(), quota: max(1, cmp.Or(in.Rate, defaultTailRate)*int(tailEvery)/int(time.Second))}
	wanted, err := partitionNumbers(in.Partitions, topic.Partitions.Len())
	if err != nil {
		return nil, badRequest(err)
	}
	if len(wanted) > maxTailPartitions {
		return nil, badRequest(fmt.Errorf("%d partitions: a tail follows %d at most; partitions=0-%d names some", len(wanted), maxTailPartitions, maxTailPartitions-1))
	}
	at, err := positionsOf(cmp.Or(in.LastEventID, in.At))
	if err != nil {
		return nil, badRequest(err)
	}
	if in.Offset >= 0 && !in.Time.IsZero() {
		return nil, badRequest(errors.New("offset and time: give one of them"))
	}
	for _, index := range wanted {
		p := tailed{index: index, at: -1, from: in.From}
		switch offset, known := at[index]; {
		case known:
			p.at, p.live = offset, true
		case in.Offset >= 0:
			p.at = in.Offset
		case !in.Time.IsZero():
			p.from, p.value = "time", in.Time.UnixMilli()
		}
		t.parts = append(t.parts, p)
	}
	return t, nil
}

// partitionNumbers reads a list of numbers and ranges of partitions, of which there are so many,
// in order; "": all.
func partitionNumbers(text string, partitions int) (all []int32, err error) {
	if text == "" {
		text = fmt.Sprintf("0-%d", partitions-1)
	}
	wanted := make([]bool, partitions) // ranges may overlap, and be many
	for one := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(one, "-")
		from, err := strconv.ParseUint(low, 10, 31)
		to := from
		if err == nil && ranged {
			to, err = strconv.ParseUint(high, 10, 31)
		}
		if err != nil || from > to {
			return nil, fmt.Errorf("partitions: %q: want numbers and ranges, as 0,3-5", one)
		}
		if to >= uint64(partitions) {
			return nil, fmt.Errorf("partitions: %d: the topic has 0 to %d", to, partitions-1)
		}
		for n := from; n <= to; n++ {
			wanted[n] = true
		}
	}
	for n, is := range wanted {
		if is {
			all = append(all, int32(n))
		}
	}
	return all, nil
}

// positionsOf reads the id of an event.
func positionsOf(id string) (map[int32]int64, error) {
	at := map[int32]int64{}
	if id == "" {
		return at, nil
	}
	for one := range strings.SplitSeq(id, ",") {
		index, offset, _ := strings.Cut(one, ":")
		n, err1 := strconv.ParseUint(index, 10, 31)
		o, err2 := strconv.ParseUint(offset, 10, 63)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%.40q is no place in a topic: want partition:offset", one)
		}
		at[int32(n)] = int64(o)
	}
	return at, nil
}

// position is the id of an event.
func (t *tail) position() string {
	var b strings.Builder
	for i := range t.parts {
		if p := &t.parts[i]; p.at >= 0 {
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%d:%d", p.index, p.at)
		}
	}
	return b.String()
}

// begin tells what is followed.
func (t *tail) begin() error {
	is := tailBegin{Topic: t.topic}
	for i := range t.parts {
		p := &t.parts[i]
		is.Partitions = append(is.Partitions, tailPartition{p.index, p.at, p.start, p.end})
	}
	return t.send("begin", t.position(), is)
}

// gone says why the topic is not what it was; "": it is.
func (t *tail) gone() string {
	is, there := t.cluster.Image().Topic(t.topic)
	switch {
	case !there:
		return "the topic was deleted"
	case is.ID != t.id:
		return "the topic was deleted, and made anew: look at it again to follow the new one"
	}
	return ""
}

// survey asks the leaders where their partitions begin and end.
func (t *tail) survey(ctx context.Context) {
	named := make([]broker.PartitionNamed, len(t.parts))
	for i := range t.parts {
		named[i] = broker.PartitionNamed{Topic: t.topic, ID: storage.PartitionID{Topic: t.id, Index: t.parts[i].index}}
	}
	for i, is := range t.holdings.Holdings(ctx, named) {
		p := &t.parts[i]
		p.unknown = is.Unknown
		if is.Unknown != "" {
			continue
		}
		p.start, p.end = int64(is.LogStart), int64(is.HighWatermark)
		if p.at < 0 && p.from == "end" {
			p.at, p.live = p.end, true
		}
	}
}

// turn shows what there is of each partition, as much as there is room for.
func (t *tail) turn(ctx context.Context) error {
	left, behind := t.quota, 0
	for i := range t.parts {
		if t.parts[i].due() {
			behind++
		}
	}
	for n := range t.parts {
		p := &t.parts[(t.first+n)%len(t.parts)]
		if err := t.tellTrouble(p); err != nil {
			return err
		}
		if !p.due() {
			continue
		}
		if err := t.mind(p); err != nil {
			return err
		}
		if left == 0 || !p.due() {
			continue
		}
		shown, err := t.look(ctx, p, max(1, left/behind))
		if err != nil {
			return err
		}
		left, behind = left-shown, max(1, behind-1)
	}
	t.first++
	return nil
}

// due reports whether there is something to look at.
func (p *tailed) due() bool { return p.unknown == "" && (p.at < 0 || p.at != p.end) }

// mind keeps a partition within its log, and near its end where it was there once.
func (t *tail) mind(p *tailed) error {
	switch {
	case p.at < 0:
		return nil
	case p.at < p.start:
		return t.skip(p, p.start, "they are not there any more: the log begins behind them")
	case p.at > p.end:
		return t.skip(p, p.end, "the log ends before them: it was cut when its leader changed, or they are not committed yet")
	case !p.live:
		return nil
	case p.behind.IsZero():
		p.behind = time.Now()
	case time.Since(p.behind) > tailPatience:
		return t.skip(p, p.end, "more comes than is shown")
	}
	return nil
}

// skip goes on elsewhere, and says so.
func (t *tail) skip(p *tailed, to int64, why string) error {
	is := tailSkipped{p.index, p.at, to, why}
	p.at, p.behind = to, time.Time{}
	return t.send("skipped", t.position(), is)
}

// tellTrouble says why a partition shows nothing, or that it does again.
func (t *tail) tellTrouble(p *tailed) error {
	why := cmp.Or(p.unknown, p.failed)
	if why == p.told {
		return nil
	}
	p.told = why
	return t.send("trouble", "", tailTrouble{p.index, why})
}

// look shows records of a partition, limit at most.
func (t *tail) look(ctx context.Context, p *tailed, limit int) (shown int, err error) {
	q := broker.PeekRequest{Topic: t.topic, Partition: p.index, From: "offset", Value: p.at, Limit: limit, Bytes: tailBytes, Match: t.match, Skips: true}
	if p.at < 0 {
		q.From, q.Value = p.from, p.value
	}
	is, err := t.messages.Peek(ctx, q)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil { // the next turn asks again
		p.failed, p.behind = err.Error(), time.Time{} // it is not for what comes
		return 0, t.tellTrouble(p)
	}
	p.failed = ""
	if err := t.tellTrouble(p); err != nil {
		return 0, err
	}
	p.start, p.end = is.LogStart, max(p.end, is.HighWatermark)
	if p.at = is.Next; p.at >= p.end {
		p.live, p.behind = true, time.Time{}
	}
	said := tailRecords{p.index, is.LogStart, is.HighWatermark, is.Next, is.Looked, []Message{}}
	for i := range is.Records {
		said.Records = append(said.Records, shownMessage(p.index, &is.Records[i]))
	}
	if err := t.send("records", t.position(), said); err != nil {
		return 0, err
	}
	for _, s := range is.Skipped {
		if err := t.send("skipped", t.position(), tailSkipped{p.index, s.From, s.To, s.Why}); err != nil {
			return 0, err
		}
	}
	return len(is.Records), nil
}
