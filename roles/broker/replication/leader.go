package replication

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rustmq.dev/rustmq/consensus/metadata"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/log"
	"rustmq.dev/rustmq/transport/rpc"
)

// Controller is what a leader asks of the controller.
type Controller interface {
	AlterPartitions(ctx context.Context, brokerID int32, brokerEpoch int64, changes []metadata.PartitionChange) []error
}

// LeaderOptions of a [Leader].
type LeaderOptions struct {
	Self       func() rpc.Incarnation // this broker's registration
	Tail       *rpc.Pushes            // streams of what is appended now
	CatchUp    *rpc.Pushes            // streams of those that lack much; other connections
	Controller Controller
	LagTime    time.Duration // 0: DefaultLagTime
	Log        *slog.Logger  // nil: none
}

// Leader pushes what this broker leads to its followers, and says to the controller who
// of them is in sync. All methods are safe for concurrent use.
type Leader struct {
	o       LeaderOptions
	limits  limits
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	wake    chan struct{} // holds a token while somebody may join an ISR
	began   time.Time
	counts  counts
	answer  atomic.Pointer[chan struct{}] // closed with the next answer of a follower; nil: nobody waits

	mu     sync.Mutex // guards the rest
	led    map[storage.PartitionID]*led
	links  map[int32]*link
	peers  map[int32]Peer
	joins  map[*led]struct{} // where somebody may join
	closed bool
}

// Peer is another broker.
type Peer struct {
	rpc.Incarnation
	Address string // host:port of its peer listener
}

// Partition is what the metadata says of a partition that is led here.
type Partition struct {
	ID             storage.PartitionID
	Log            *log.Log // led under the epoch
	LeaderEpoch    storage.Epoch
	PartitionEpoch int32
	Replicas, ISR  []int32
	MinInSync      int
	MetadataOffset uint64 // of an image that has the leader epoch
	// Fullest is set to how full the fullest WAL is among the followers in sync, in
	// thousandths of what produce may take, a beat ago at most; nil: nobody asks.
	Fullest *atomic.Uint32
}

// counts are for metrics.
type counts struct {
	bytes, shrinks, growths atomic.Int64
}

// led is a partition that is led, under one epoch.
type led struct {
	leader   *Leader
	id       storage.PartitionID
	log      *log.Log
	epoch    storage.Epoch
	metadata uint64
	fullest  *atomic.Uint32
	feeds    atomic.Pointer[[]*feed]

	setting sync.Mutex // held while the log is told whom it waits for; before mu
	over    bool       // it tells the log nothing any more; guarded by setting
	mu      sync.Mutex // guards isr
	isr     isr
}

// NewLeader returns a leader that leads nothing yet.
func NewLeader(o LeaderOptions) *Leader {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Leader{
		o: o, limits: defaultLimits, wake: make(chan struct{}, 1), began: time.Now(),
		led: map[storage.PartitionID]*led{}, links: map[int32]*link{}, peers: map[int32]Peer{}, joins: map[*led]struct{}{},
	}
	if o.LagTime > 0 {
		l.limits.lag = o.LagTime
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.running.Go(func() { l.keep(l.ctx) })
	return l
}

// Close ends all streams, and waits. The partitions stay led.
func (l *Leader) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.led {
		p.log.Observe(nil)
	}
	return nil
}

// SetPeers says which brokers there are, and where. A broker of another registration
// than before is another one: what it confirmed is forgotten.
func (l *Leader) SetPeers(peers map[int32]Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peers = peers
	for id, k := range l.links {
		if is, ok := peers[id]; !ok || is != k.peer {
			k.stop()
			delete(l.links, id)
		}
	}
	for _, p := range l.led {
		l.connect(p)
	}
}

// Lead pushes a partition to its replicas from now on, or takes what is new of one that
// is led already.
func (l *Leader) Lead(now time.Time, is Partition) {
	l.mu.Lock()
	p := l.led[is.ID]
	var before *led
	if p != nil && (p.epoch != is.LeaderEpoch || p.log != is.Log) {
		l.forgetLocked(p)
		before, p = p, nil
	}
	if p == nil {
		p = &led{leader: l, id: is.ID, log: is.Log, epoch: is.LeaderEpoch, metadata: is.MetadataOffset, fullest: is.Fullest}
		if p.fullest == nil {
			p.fullest = new(atomic.Uint32)
		}
		p.fullest.Store(0)
		start := is.Log.Progress().End
		for _, e := range is.Log.History().Epochs {
			if e.Epoch == is.LeaderEpoch {
				start = e.Start
			}
		}
		p.isr = isr{limits: l.limits, self: l.o.Self().Broker, epochStart: start, leaderEpoch: is.LeaderEpoch}
		p.feeds.Store(new([]*feed))
		l.led[is.ID] = p
	}
	p.mu.Lock()
	p.isr.set(now, is.PartitionEpoch, is.ISR, is.Replicas, is.MinInSync)
	p.mu.Unlock()
	l.connect(p)
	l.mu.Unlock()
	if before != nil {
		before.retire()
	}
	p.tell()
	p.log.Observe(p)
	p.LogMoved(p.log) // whatever was appended since a feed was looked at
}

// Unlead ends pushing a partition. When it returns, no answer of the controller to what
// was asked for it has its log wait for anybody any more.
func (l *Leader) Unlead(id storage.PartitionID) {
	l.mu.Lock()
	p := l.led[id]
	if p != nil {
		l.forgetLocked(p)
	}
	l.mu.Unlock()
	if p != nil {
		p.retire()
	}
}

// forgetLocked ends pushing a partition. l.mu is held.
func (l *Leader) forgetLocked(p *led) {
	delete(l.led, p.id)
	delete(l.joins, p)
	p.log.Observe(nil)
	for _, f := range *p.feeds.Swap(new([]*feed)) {
		f.link.end(f)
	}
}

// connect gives a partition a feed to each of its replicas. l.mu is held.
func (l *Leader) connect(p *led) {
	if l.closed {
		return
	}
	p.mu.Lock()
	want := make([]int32, 0, len(p.isr.members))
	for _, m := range p.isr.members {
		want = append(want, m.id)
	}
	p.mu.Unlock()
	var feeds []*feed
	changed := false
	for _, f := range *p.feeds.Load() {
		if l.links[f.link.peer.Broker] == f.link && slices.Contains(want, f.link.peer.Broker) {
			feeds = append(feeds, f)
			continue
		}
		f.link.end(f)
		p.forget(f.link.peer.Broker) // it is another one that comes back
		changed = true
	}
	for _, id := range want {
		peer, known := l.peers[id]
		if !known || slices.ContainsFunc(feeds, func(f *feed) bool { return f.link.peer.Broker == id }) {
			continue
		}
		k := l.links[id]
		if k == nil {
			k = newLink(l, peer)
			l.links[id] = k
		}
		f := &feed{p: p, link: k, lane: k.tail}
		feeds, changed = append(feeds, f), true
		k.begin(f)
	}
	if changed {
		p.feeds.Store(&feeds)
		p.LogMoved(p.log) // a new one may have streams already, and was not told what moved since
	}
}

// LogMoved implements log.Observer.
func (p *led) LogMoved(*log.Log) {
	for _, f := range *p.feeds.Load() {
		f.mark()
	}
}

// tell tells the log whom it waits for.
func (p *led) tell() {
	p.setting.Lock()
	defer p.setting.Unlock()
	if p.over {
		return
	}
	p.mu.Lock()
	r := p.isr.replicas()
	p.mu.Unlock()
	p.log.SetReplicas(r)
}

// retire has the log told nothing any more. Leader.mu is not held.
func (p *led) retire() {
	p.setting.Lock()
	p.over = true
	p.setting.Unlock()
}

// confirmed takes what a follower has on disk, by what a feed passes on.
func (p *led) confirmed(now time.Time, f log.Confirmer, by rpc.Incarnation, synced storage.Offset) {
	if p.log.ConfirmBy(f, by.Broker, synced, p.epoch) != nil {
		return // it is not led any more, or the feed has ended: what came by it is forgotten, or will be
	}
	end := p.log.Progress().End
	p.mu.Lock()
	if f != nil && !f.Stands() {
		p.mu.Unlock()
		return
	}
	p.isr.confirm(now, by.Broker, by.Epoch, synced, end)
	joins := !slices.Contains(p.isr.committed, by.Broker) && !slices.Contains(p.isr.proposed, by.Broker)
	p.mu.Unlock()
	if joins {
		p.leader.mayJoin(p)
	}
}

func (p *led) forget(id int32) {
	p.mu.Lock()
	p.isr.forget(id)
	p.mu.Unlock()
	p.log.Forget(id)
}

func (l *Leader) mayJoin(p *led) {
	l.mu.Lock()
	if l.led[p.id] == p {
		l.joins[p] = struct{}{}
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Heard is when a follower in sync was last known to follow the epoch that is led here;
// zero: never. A partition that has no such follower by the metadata is not asked for.
func (l *Leader) Heard(id storage.PartitionID) (last time.Time) {
	l.mu.Lock()
	p := l.led[id]
	l.mu.Unlock()
	if p == nil {
		return last
	}
	p.mu.Lock()
	committed := p.isr.committed
	p.mu.Unlock()
	for _, f := range *p.feeds.Load() {
		if !slices.Contains(committed, f.link.peer.Broker) {
			continue
		}
		if at := f.heard(); at.After(last) {
			last = at
		}
	}
	return last
}

// Holds reports whether a follower in sync has all of a partition before an offset on
// disk, by what it has confirmed, and was heard of within a time.
func (l *Leader) Holds(id storage.PartitionID, follower int32, offset storage.Offset, within time.Duration) bool {
	l.mu.Lock()
	p := l.led[id]
	l.mu.Unlock()
	if p == nil {
		return false
	}
	p.mu.Lock()
	m := p.isr.member(follower)
	holds := m != nil && m.epoch != 0 && m.confirmed >= offset && slices.Contains(p.isr.committed, follower)
	p.mu.Unlock()
	if !holds {
		return false
	}
	for _, f := range *p.feeds.Load() {
		if f.link.peer.Broker == follower {
			return time.Since(f.heard()) < within
		}
	}
	return false
}
