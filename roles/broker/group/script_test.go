package group

import (
	"flag"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"rustmq.dev/rustmq/roles/broker/coordinator"
	"rustmq.dev/rustmq/storage"
)

var rewrite = flag.Bool("rewrite", false, "write what happened into the scripts of testdata")

// TestScripts runs testdata/*.txt: one event a line, and what it brought about
// after "----", up to an empty line. Each file is the life of one core.
//
// The words: who=NAME names a caller, whose member id the script remembers from
// the answers; g=GROUP is the group, "g" unless said; v=N the request's version.
// Writes are committed at once, unless "hold" came before, until "release"; "fail
// CODE" refuses those held.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newScript()
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimRight(string(content), "\n"), "\n\n") {
		input, _, isCommand := strings.Cut(block, "\n----")
		if !isCommand {
			out.WriteString(block + "\n\n")
			continue
		}
		for line := range strings.SplitSeq(input, "\n") {
			if !strings.HasPrefix(line, "#") {
				s.run(t, line)
			}
		}
		out.WriteString(input + "\n----\n" + s.out.String() + "\n")
		s.out.Reset()
	}
	got := strings.TrimRight(out.String(), "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(content) {
		t.Errorf("the script gave (-rewrite keeps it):\n%s", got)
	}
}

// script drives one core.
type script struct {
	opt   Options
	core  *Core
	start time.Time
	now   time.Time
	ids   int
	call  Call
	who   map[Call]string   // who called
	known map[string]string // member ids by who
	epoch map[string]int32  // of members of the consumer protocol, by who
	atlas atlas
	log   []Record // committed
	held  []Write
	hold  bool
	hides map[string]string // topics that clients may not know of, by who they are
	out   strings.Builder
}

func newScript() *script {
	s := &script{start: time.Unix(1_700_000_000, 0), who: map[Call]string{}, known: map[string]string{}, epoch: map[string]int32{}, hides: map[string]string{}}
	s.atlas = atlas{0, map[string]int32{}, map[string]storage.TopicID{}}
	s.now = s.start
	s.opt = Options{Log: new(memoryLog), NewID: func() string { s.ids++; return strconv.Itoa(s.ids) }, MaxGroupSize: 4, MaxMetadata: 10, MaxMember: 250}
	if err := s.opt.setDefaults(); err != nil {
		panic(err)
	}
	s.core = NewCore(s.opt)
	return s
}

func (s *script) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

// args are the words of a line: key=value, or bare.
type args struct {
	bare  []string
	named map[string]string
}

func (a args) or(key, otherwise string) string {
	if v, ok := a.named[key]; ok {
		return v
	}
	return otherwise
}

func (a args) int(key string, otherwise int) int {
	v, ok := a.named[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		panic(fmt.Sprintf("%s=%s: %v", key, v, err))
	}
	return n
}

func (a args) instance() *string {
	if v, ok := a.named["instance"]; ok {
		return &v
	}
	return nil
}

// member is the id of who, or what id= says.
func (s *script) member(a args) string {
	if v, ok := a.named["id"]; ok {
		return v
	}
	return s.known[a.named["who"]]
}

func (s *script) run(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	a := args{named: map[string]string{}}
	for _, w := range words[1:] {
		if key, value, ok := strings.Cut(w, "="); ok {
			a.named[key] = value
		} else {
			a.bare = append(a.bare, w)
		}
	}
	g, v := a.or("g", "g"), func(otherwise int) int16 { return int16(a.int("v", otherwise)) }
	switch words[0] {
	case "options":
		s.opt.InitialRebalanceDelay = time.Duration(a.int("delay", 0)) * time.Second
		s.opt.OffsetRetention = time.Duration(a.int("retention", 604800)) * time.Second
		s.core = NewCore(s.opt)
	case "join":
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID = v(5), g, s.member(a), a.instance()
		req.SessionTimeoutMillis = int32(a.int("session", 10) * 1000)
		req.RebalanceTimeoutMillis = int32(a.int("rebalance", 60) * 1000)
		req.ProtocolType = a.or("type", "consumer")
		for p := range strings.SplitSeq(a.or("protocols", "range:t"), ",") {
			if name, topics, ok := strings.Cut(p, ":"); ok {
				m := kmsg.ConsumerMemberMetadata{Version: int16(min(len(a.bare), 1)), Topics: strings.Split(topics, "+")}
				for topic, partitions := range places(a.bare) {
					m.OwnedPartitions = append(m.OwnedPartitions, kmsg.ConsumerMemberMetadataOwnedPartition{Topic: topic, Partitions: partitions})
				}
				req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: m.AppendTo(nil)})
			}
		}
		s.ask(a, req)
	case "topics": // name=partitions; 0 takes the topic away
		for _, name := range slices.Sorted(maps.Keys(a.named)) {
			s.atlas = s.atlas.with(name, int32(a.int(name, 0)))
		}
		s.step(TopicsChanged{Wall: s.now, Catalogue: s.atlas})
	case "policy":
		s.opt.Consumer.Migration = Migration(a.bare[0])
		s.core = NewCore(s.opt)
		s.step(TopicsChanged{Wall: s.now, Catalogue: s.atlas})
	case "authorised":
		s.opt.Authorised = true
		s.core = NewCore(s.opt)
		s.step(TopicsChanged{Wall: s.now, Catalogue: s.atlas})
	case "rights": // of as=: without hides=, it may know of all
		s.hides[a.named["as"]] = a.named["hides"]
	case "expire":
		s.step(ExpireOffsets{Wall: s.now, Believed: s.now})
	case "beat": // topic/partition: what it owns; "nothing": none; else it does not say
		s.beat(a, g, v(1))
	case "describe-consumers":
		s.ask(a, &DescribeConsumerGroup{Group: g})
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = v(5), g, s.member(a), a.instance(), int32(a.int("gen", 1))
		if p, ok := a.named["protocol"]; ok {
			req.Protocol = &p
		}
		for _, w := range slices.Sorted(maps.Keys(a.named)) {
			if who, ok := strings.CutPrefix(w, "to:"); ok {
				req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: s.known[who], MemberAssignment: assigned(a.named[w])})
			}
		}
		s.ask(a, req)
	case "heartbeat":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = v(4), g, s.member(a), a.instance(), int32(a.int("gen", 1))
		s.ask(a, req)
	case "leave":
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = v(5), g, s.member(a)
		req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: s.member(a), InstanceID: a.instance()}}
		for _, who := range a.bare {
			req.Members = append(req.Members, kmsg.LeaveGroupRequestMember{MemberID: s.known[who]})
		}
		s.ask(a, req)
	case "commit":
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Version, req.Group, req.MemberID, req.InstanceID, req.Generation = v(8), g, s.member(a), a.instance(), int32(a.int("gen", -1))
		req.RetentionTimeMillis = int64(a.int("retention", -1))
		for _, b := range a.bare { // topic/partition@offset
			place, offset, _ := strings.Cut(b, "@")
			topic, p, _ := strings.Cut(place, "/")
			partition, _ := strconv.Atoi(p)
			n, _ := strconv.Atoi(offset)
			rp := kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = int32(partition), int64(n), int32(a.int("epoch", 7))
			if m, ok := a.named["metadata"]; ok {
				rp.Metadata = &m
			}
			req.Topics = append(req.Topics, kmsg.OffsetCommitRequestTopic{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{rp}})
		}
		s.ask(a, req)
	case "fetch":
		q := &FetchOffsets{Group: g, All: len(a.bare) == 0, Epoch: int32(a.int("epoch", -1))}
		if a.named["who"] != "" {
			q.Member = new(s.member(a))
		}
		for _, b := range a.bare {
			topic, p, _ := strings.Cut(b, "/")
			partition, _ := strconv.Atoi(p)
			q.Topics = append(q.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: topic, Partitions: []int32{int32(partition)}})
		}
		s.ask(a, q)
	case "describe":
		s.ask(a, &DescribeGroup{Group: g, Version: v(5)})
	case "list":
		q := &ListGroups{}
		if st, ok := a.named["state"]; ok {
			q.States = []string{st}
		}
		if ty, ok := a.named["type"]; ok {
			q.Types = []string{ty}
		}
		s.ask(a, q)
	case "delete":
		s.ask(a, &DeleteGroup{Group: g})
	case "forget":
		s.step(ForgetTopics{Wall: s.now, Gone: func(topic string, _ storage.TopicID) bool { return slices.Contains(a.bare, topic) }})
	case "delete-offsets":
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = g
		for _, b := range a.bare {
			topic, p, _ := strings.Cut(b, "/")
			partition, _ := strconv.Atoi(p)
			req.Topics = append(req.Topics, kmsg.OffsetDeleteRequestTopic{Topic: topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: int32(partition)}}})
		}
		s.ask(a, &DeleteOffsets{Request: req, Partitions: map[string]int32{"a": 1, "b": 1, "t": 6, "u": 1, "w": 1}})
	case "hold":
		s.hold = true
	case "release":
		s.finish(nil)
	case "fail":
		s.finish(map[string]error{"not-leader": coordinator.ErrNotLeader, "too-large": coordinator.ErrTooLarge, "dead": os.ErrClosed}[a.bare[0]])
	case "restart":
		s.restart(t)
	case "wait": // seconds, in which every deadline is met
		until := s.now.Add(time.Duration(a.int("s", 0)) * time.Second)
		for d := s.core.Deadline(); !d.IsZero() && !d.After(until); d = s.core.Deadline() {
			s.now = d
			s.step(Tick{Wall: d})
		}
		s.now = until
	default:
		t.Fatalf("no command %q", words[0])
	}
}

func (s *script) ask(a args, body any) {
	s.call++
	s.who[s.call] = a.or("who", "-")
	r := Request{Call: s.call, ClientID: a.or("who", "-"), ClientHost: "/127.0.0.1", Wall: s.now, Full: a.named["full"] != "", Body: body}
	if s.opt.Authorised {
		as := a.or("as", "-")
		r.Rights = scriptRights{as, s.hides[as]}
	}
	s.step(r)
}

// scriptRights are those of who calls as somebody.
type scriptRights struct{ as, hides string }

func (r scriptRights) Describes(topic string) bool {
	return !slices.Contains(strings.Split(r.hides, "+"), topic)
}

func (r scriptRights) SameClient(other Rights) bool { return r.as == other.(scriptRights).as }

func (s *script) step(ev Event) {
	fx := stepMatching(s.core, s.now, ev)
	at := s.now.Sub(s.start).Seconds()
	for _, n := range fx.Notes {
		s.printf("%5.1fs   %s: %s %s", at, n.Group, n.What, n.Member)
	}
	for _, answer := range fx.Answers {
		who := s.who[answer.Call]
		delete(s.who, answer.Call)
		s.printf("%5.1fs > %s: %s", at, who, s.show(who, answer.Body))
	}
	s.held = append(s.held, fx.Writes...)
	if !s.hold {
		s.finish(nil)
	}
}

// finish tells the core the fate of what it wrote.
func (s *script) finish(err error) {
	s.hold = false
	if len(s.held) == 0 {
		return
	}
	w := Written{Err: err}
	for _, h := range s.held {
		w.IDs = append(w.IDs, h.ID)
		if err == nil {
			s.log = append(s.log, h.Records...)
		}
	}
	s.held = nil
	s.step(w)
}

func (s *script) restart(t *testing.T) {
	t.Helper()
	s.core = NewCore(s.opt)
	s.held, s.who = nil, map[Call]string{}
	for _, r := range s.log {
		if err := s.core.Replay(r); err != nil {
			t.Fatal(err)
		}
	}
	s.core.Loaded(s.now)
	s.step(TopicsChanged{Wall: s.now, Catalogue: s.atlas})
}

// places yields topic/partition, one by one.
func places(words []string) iter.Seq2[string, []int32] {
	return func(yield func(string, []int32) bool) {
		for _, w := range words {
			topic, p, ok := strings.Cut(w, "/")
			if partition, _ := strconv.Atoi(p); ok && !yield(topic, []int32{int32(partition)}) {
				return
			}
		}
	}
}

// assigned is what a leader hands out: topic/partition+topic/partition of consumers,
// else a word of another form.
func assigned(word string) []byte {
	var m kmsg.ConsumerMemberAssignment
	for topic, partitions := range places(strings.Split(word, "+")) {
		m.Topics = append(m.Topics, kmsg.ConsumerMemberAssignmentTopic{Topic: topic, Partitions: partitions})
	}
	if m.Topics == nil {
		return []byte(word)
	}
	return m.AppendTo(nil)
}

// beat sends a heartbeat of the consumer protocol. A member makes its own id, and
// says everything when it joins.
func (s *script) beat(a args, g string, version int16) {
	who := a.or("who", "-")
	if s.known[who] == "" {
		s.known[who] = "m-" + who
	}
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = version, g, s.member(a), a.instance()
	req.MemberEpoch = int32(a.int("epoch", int(s.epoch[who])))
	if topics, ok := a.named["topics"]; ok || req.MemberEpoch == joinEpoch {
		req.SubscribedTopicNames = strings.FieldsFunc(topics, func(r rune) bool { return r == '+' })
	}
	if p, ok := a.named["pattern"]; ok {
		req.SubscribedTopicRegex = &p
	}
	if name, ok := a.named["assignor"]; ok {
		req.ServerAssignor = &name
	}
	if req.MemberEpoch == joinEpoch {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		req.RebalanceTimeoutMillis = 20_000
	}
	for _, b := range a.bare {
		if req.Topics == nil {
			req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		if topic, p, ok := strings.Cut(b, "/"); ok {
			partition, _ := strconv.Atoi(p)
			req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: s.atlas.TopicID(topic), Partitions: []int32{int32(partition)}})
		}
	}
	s.ask(a, req)
}

// named is an assignment by the names of topics.
func (s *script) named(a assignment) string {
	var all []string
	for _, topic := range a.topics() {
		for _, p := range a[topic] {
			all = append(all, fmt.Sprintf("%s/%d", s.atlas.TopicName(topic), p))
		}
	}
	return "(" + strings.Join(all, " ") + ")"
}

func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	return kerr.ErrorForCode(c).(*kerr.Error).Message
}

// show is an answer on a line.
func (s *script) show(who string, body any) string {
	name := func(id string) string {
		for who, is := range s.known {
			if is == id {
				return who
			}
		}
		return id
	}
	switch r := body.(type) {
	case *kmsg.JoinGroupResponse:
		if r.MemberID != "" {
			s.known[who] = r.MemberID
		}
		if r.ErrorCode != 0 {
			return fmt.Sprintf("join %s id=%s", code(r.ErrorCode), r.MemberID)
		}
		line := fmt.Sprintf("join ok gen=%d %s id=%s leader=%s", r.Generation, *r.Protocol, r.MemberID, r.LeaderID)
		if r.SkipAssignment {
			line += " skip"
		}
		for _, m := range r.Members {
			var sub kmsg.ConsumerMemberMetadata
			if err := sub.ReadFrom(m.ProtocolMetadata); err != nil {
				return err.Error()
			}
			line += fmt.Sprintf(" [%s %s]", m.MemberID, strings.Join(sub.Topics, "+"))
		}
		return line
	case *kmsg.SyncGroupResponse:
		return fmt.Sprintf("sync %s %q", code(r.ErrorCode), r.MemberAssignment)
	case *kmsg.ConsumerGroupHeartbeatResponse:
		if r.ErrorCode != 0 {
			return "beat " + code(r.ErrorCode)
		}
		if r.MemberEpoch >= 0 {
			s.known[who], s.epoch[who] = *r.MemberID, r.MemberEpoch
		} else {
			delete(s.epoch, who)
		}
		line := fmt.Sprintf("beat ok id=%s epoch=%d", *r.MemberID, r.MemberEpoch)
		if r.Assignment != nil {
			all := assignment{}
			for _, t := range r.Assignment.Topics {
				all[t.TopicID] = t.Partitions
			}
			line += " " + s.named(all)
		}
		return line
	case *kmsg.ConsumerGroupDescribeResponseGroup:
		line := fmt.Sprintf("describe %s %s epoch=%d/%d %s", code(r.ErrorCode), r.State, r.Epoch, r.AssignmentEpoch, r.AssignorName)
		of := func(a kmsg.Assignment) string {
			all := assignment{}
			for _, t := range a.TopicPartitions {
				all[t.TopicID] = t.Partitions
			}
			return s.named(all)
		}
		for _, m := range r.Members {
			line += fmt.Sprintf(" [%s epoch=%d type=%d %s has %s target %s]", m.MemberID, m.MemberEpoch, m.MemberType, strings.Join(m.SubscribedTopics, "+"), of(m.Assignment), of(m.TargetAssignment))
		}
		return line
	case *kmsg.HeartbeatResponse:
		return "heartbeat " + code(r.ErrorCode)
	case *kmsg.LeaveGroupResponse:
		line := "leave " + code(r.ErrorCode)
		for _, m := range r.Members {
			line += fmt.Sprintf(" [%s %s]", name(m.MemberID), code(m.ErrorCode))
		}
		return line
	case *kmsg.OffsetCommitResponse:
		line := "commit"
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				line += fmt.Sprintf(" %s/%d:%s", t.Topic, p.Partition, code(p.ErrorCode))
			}
		}
		return line
	case *kmsg.OffsetFetchResponseGroup:
		line := "fetch " + code(r.ErrorCode)
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				line += fmt.Sprintf(" %s/%d@%d", t.Topic, p.Partition, p.Offset)
				if p.LeaderEpoch >= 0 {
					line += fmt.Sprintf("e%d", p.LeaderEpoch)
				}
				if *p.Metadata != "" {
					line += fmt.Sprintf("%q", *p.Metadata)
				}
			}
		}
		return line
	case *kmsg.DescribeGroupsResponseGroup:
		line := fmt.Sprintf("describe %s %s type=%s protocol=%s", code(r.ErrorCode), r.State, r.ProtocolType, r.Protocol)
		for _, m := range r.Members {
			line += fmt.Sprintf(" [%s %s %s %d bytes, %q]", m.MemberID, m.ClientID, m.ClientHost, len(m.ProtocolMetadata), m.MemberAssignment)
		}
		return line
	case []kmsg.ListGroupsResponseGroup:
		line := "list"
		for _, g := range r {
			line += fmt.Sprintf(" [%s %s %s %s]", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
		}
		return line
	case *kmsg.OffsetDeleteResponse:
		line := "delete-offsets " + code(r.ErrorCode)
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				line += fmt.Sprintf(" %s/%d:%s", t.Topic, p.Partition, code(p.ErrorCode))
			}
		}
		return line
	case int16:
		return code(r)
	}
	return fmt.Sprintf("%T", body)
}
