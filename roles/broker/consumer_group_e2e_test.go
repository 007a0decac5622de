package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/group"
)

// crew are the consumers of one group and what each has been given.
type crew struct {
	t    *testing.T
	ctx  context.Context
	addr string

	mu      sync.Mutex
	changed chan struct{}              // closed and replaced whenever what follows changes
	owned   map[string]map[string]bool // by member name: partitions
	twice   []string                   // partitions that two had at once
	seen    map[string]int             // records, by partition and offset
	running map[string]func()          // ends a member
}

func newCrew(ctx context.Context, t *testing.T, addr string) *crew {
	return &crew{t: t, ctx: ctx, addr: addr, changed: make(chan struct{}), owned: map[string]map[string]bool{}, seen: map[string]int{}, running: map[string]func(){}}
}

// change changes what is known, and tells who waits for that.
func (c *crew) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await waits until something is so; is gets called with c.mu held, and says else
// what is so.
func (c *crew) await(is func() (bool, string)) {
	c.t.Helper()
	look := func() (ok bool, but string, changed chan struct{}) {
		c.mu.Lock()
		defer c.mu.Unlock()
		ok, but = is()
		return ok, but, c.changed
	}
	for {
		ok, but, changed := look()
		if ok {
			return
		}
		select {
		case <-c.ctx.Done():
			c.t.Fatal(but)
		case <-changed:
		}
	}
}

// hire starts a consumer; it commits what it has read before it lets partitions go.
func (c *crew) hire(name string, opts ...kgo.Opt) {
	c.t.Helper()
	had := map[string]bool{}
	note := func(add bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(ctx context.Context, cl *kgo.Client, parts map[string][]int32) {
			if !add {
				if err := cl.CommitMarkedOffsets(ctx); err != nil && !errors.Is(err, context.Canceled) && !retriable(err) {
					c.t.Errorf("%s commits: %v", name, err)
				}
			}
			c.change(func() {
				for topic, partitions := range parts {
					for _, p := range partitions {
						at := fmt.Sprintf("%s/%d", topic, p)
						if !add {
							delete(had, at)
							continue
						}
						for other, has := range c.owned {
							if other != name && has[at] {
								c.twice = append(c.twice, fmt.Sprintf("%s of %s and %s", at, other, name))
							}
						}
						had[at] = true
					}
				}
			})
		}
	}
	c.change(func() { c.owned[name] = had })
	cl := newClient(c.t, c.addr, append([]kgo.Opt{
		kgo.ConsumerGroup("crew"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.ClientID(name),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(100 * time.Millisecond), kgo.MetadataMaxAge(200 * time.Millisecond),
		kgo.HeartbeatInterval(50 * time.Millisecond),
		kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false)),
	}, opts...)...)
	ctx, stop := context.WithCancel(c.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			fetches := cl.PollFetches(ctx)
			if ctx.Err() != nil {
				return
			}
			c.change(func() {
				for _, r := range fetches.Records() {
					c.seen[fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset)]++
				}
			})
			cl.MarkCommitRecords(fetches.Records()...)
		}
	}()
	c.running[name] = func() {
		stop()
		<-done
		cl.Close()
		c.change(func() { delete(c.owned, name) })
	}
	c.t.Cleanup(func() { stop(); <-done })
}

func (c *crew) dismiss(name string) {
	c.t.Helper()
	c.running[name]()
	delete(c.running, name)
}

// until waits for the members to own so many partitions each, in the order of
// their names.
func (c *crew) until(want ...int) {
	c.t.Helper()
	c.await(func() (bool, string) {
		if len(c.twice) > 0 {
			c.t.Fatalf("partitions with two owners: %v", c.twice)
		}
		var is []int
		var got []string
		for _, name := range slices.Sorted(maps.Keys(c.owned)) {
			is = append(is, len(c.owned[name]))
			got = append(got, fmt.Sprintf("%s has %d", name, len(c.owned[name])))
		}
		return slices.Equal(is, want), fmt.Sprintf("%v, want %v", got, want)
	})
}

// sees waits until n different records were read.
func (c *crew) sees(n int) {
	c.t.Helper()
	c.await(func() (bool, string) {
		return len(c.seen) == n, fmt.Sprintf("%d of %d records were read", len(c.seen), n)
	})
}

// startQuick is a cluster whose members of the consumer protocol send heartbeats
// often.
func startQuick(t *testing.T, change ...func(*group.Options)) (*node, string) {
	t.Helper()
	return startCluster(t, func(o *Options) {
		o.Groups.Consumer = group.ConsumerOptions{Session: 2 * time.Second, Heartbeat: 50 * time.Millisecond}
		for _, c := range change {
			c(&o.Groups)
		}
	})
}

func produceJobs(ctx context.Context, t *testing.T, addr, topic string, n int) {
	t.Helper()
	cl := newClient(t, addr, kgo.DefaultProduceTopic(topic))
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Key: []byte(strconv.Itoa(i)), Value: []byte("job")}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

var nextGen = kgo.ServerSideBalancer()

func describeCrew(ctx context.Context, t *testing.T, cl *kgo.Client) kmsg.ConsumerGroupDescribeResponseGroup {
	t.Helper()
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{"crew"}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Groups[0]
}

// Members of the consumer protocol come and go, topics grow; each partition is
// with one of them, and what was committed is where the next goes on.
func TestServerAssignsPartitions(t *testing.T) {
	_, addr := startQuick(t)
	ctx := within(t, 60*time.Second)
	cl := newClient(t, addr)
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, 6, 1, nil, "jobs"); err != nil {
		t.Fatal(err)
	}
	produceJobs(ctx, t, addr, "jobs", 300)
	c := newCrew(ctx, t, addr)
	c.hire("a", kgo.ConsumeTopics("jobs"), nextGen)
	c.until(6)
	c.sees(300)
	c.hire("b", kgo.ConsumeTopics("jobs"), nextGen)
	c.until(3, 3)
	if g := describeCrew(ctx, t, cl); g.State != "Stable" || g.AssignorName != "uniform" || len(g.Members) != 2 || g.Members[0].MemberType != 1 || g.Epoch != g.AssignmentEpoch {
		t.Errorf("described as %+v", g)
	}
	if _, err := admin.CreatePartitions(ctx, 2, "jobs"); err != nil {
		t.Fatal(err)
	}
	c.until(4, 4)
	produceJobs(ctx, t, addr, "jobs", 300)
	c.sees(600)
	c.dismiss("a")
	c.until(8)
	groups, err := admin.ListGroups(ctx)
	if err != nil || groups["crew"].ProtocolType != "consumer" {
		t.Errorf("list: %v, %+v", err, groups)
	}
	if deleted, err := admin.DeleteGroup(ctx, "crew"); err == nil && deleted.Err == nil {
		t.Error("a group with members was deleted")
	}
	c.dismiss("b")
	offsets, err := admin.FetchOffsets(ctx, "crew")
	if err != nil {
		t.Fatal(err)
	}
	committed := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { committed += o.At })
	if committed != 600 {
		t.Errorf("%d of 600 records are committed", committed)
	}
	for at, times := range c.seen {
		if times != 1 {
			t.Errorf("record %s was read %d times", at, times)
		}
	}
	if deleted, err := admin.DeleteGroup(ctx, "crew"); err != nil || deleted.Err != nil {
		t.Errorf("delete: %v, %v", err, deleted.Err)
	}
}

// A pattern is resolved by the server: topics that match come in when they are
// made, and go when they are deleted.
func TestServerResolvesPatterns(t *testing.T) {
	_, addr := startQuick(t)
	ctx := within(t, 60*time.Second)
	admin := kadm.NewClient(newClient(t, addr))
	c := newCrew(ctx, t, addr)
	if _, err := admin.CreateTopics(ctx, 2, 1, nil, "logs-1", "other"); err != nil {
		t.Fatal(err)
	}
	c.hire("a", kgo.ConsumeRegex(), kgo.ConsumeTopics("^logs-.*"), nextGen)
	c.until(2)
	if _, err := admin.CreateTopics(ctx, 3, 1, nil, "logs-2"); err != nil {
		t.Fatal(err)
	}
	c.until(5)
	produceJobs(ctx, t, addr, "logs-2", 30)
	c.sees(30)
	if _, err := admin.DeleteTopics(ctx, "logs-1"); err != nil {
		t.Fatal(err)
	}
	c.until(3)
}

// A static member that goes and comes back has its partitions again, and nobody
// else had them meanwhile.
func TestStaticMemberComesBackToItsPartitions(t *testing.T) {
	_, addr := startQuick(t, func(o *group.Options) { o.Consumer.Session = time.Minute })
	ctx := within(t, 60*time.Second)
	cl := newClient(t, addr)
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 4, 1, nil, "jobs"); err != nil {
		t.Fatal(err)
	}
	c := newCrew(ctx, t, addr)
	static := []kgo.Opt{kgo.ConsumeTopics("jobs"), nextGen, kgo.InstanceID("one")}
	c.hire("a", static...)
	c.hire("b", kgo.ConsumeTopics("jobs"), nextGen)
	c.until(2, 2)
	before := describeCrew(ctx, t, cl)
	c.dismiss("a") // by -2
	c.until(2)
	away := describeCrew(ctx, t, cl)
	if away.Epoch != before.Epoch || len(away.Members) != 2 {
		t.Errorf("while it is away: %+v", away)
	}
	c.hire("a", static...)
	c.until(2, 2)
	if after := describeCrew(ctx, t, cl); after.Epoch != before.Epoch {
		t.Errorf("epoch %d, before it went %d", after.Epoch, before.Epoch)
	}
}

// A rolling upgrade and back: members of both protocols share a group, and it
// goes back to the classic protocol when the last of the other has gone.
func TestGroupMovesBetweenProtocols(t *testing.T) {
	_, addr := startQuick(t)
	ctx := within(t, 90*time.Second)
	cl := newClient(t, addr)
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, 6, 1, nil, "jobs"); err != nil {
		t.Fatal(err)
	}
	produceJobs(ctx, t, addr, "jobs", 100)
	c := newCrew(ctx, t, addr)
	old := []kgo.Opt{kgo.ConsumeTopics("jobs"), kgo.Balancers(kgo.CooperativeStickyBalancer())}
	c.hire("a", old...)
	c.hire("b", old...)
	c.until(3, 3)
	c.hire("c", kgo.ConsumeTopics("jobs"), nextGen)
	c.until(2, 2, 2)
	if g := describeCrew(ctx, t, cl); g.ErrorCode != 0 || len(g.Members) != 3 {
		t.Fatalf("described as %+v", g)
	}
	c.dismiss("a")
	c.until(3, 3)
	c.hire("d", old...)
	c.until(2, 2, 2)
	c.dismiss("c")
	c.until(3, 3)
	if described, err := admin.DescribeGroups(ctx, "crew"); err != nil || described["crew"].Protocol != "cooperative-sticky" {
		t.Errorf("not a classic group again: %v, %+v", err, described["crew"])
	}
	produceJobs(ctx, t, addr, "jobs", 100)
	c.sees(200)
}
