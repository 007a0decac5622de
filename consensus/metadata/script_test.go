package metadata

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

var rewrite = flag.Bool("rewrite", false, "write what happened into the scripts of testdata")

// TestScripts runs testdata/*.txt: one command a line, what it gave after
// "----", up to an empty line. Each file is one log.
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
	s := &script{state: NewState()}
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimRight(string(content), "\n"), "\n\n") {
		input, _, isCommand := strings.Cut(block, "\n----")
		if !isCommand {
			out.WriteString(block + "\n\n")
			continue
		}
		var got strings.Builder
		for line := range strings.SplitSeq(input, "\n") {
			if !strings.HasPrefix(line, "#") {
				got.WriteString(s.run(t, line) + "\n")
			}
		}
		out.WriteString(input + "\n----\n" + got.String() + "\n")
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got := strings.TrimRight(out.String(), "\n") + "\n"; got != string(content) {
		t.Errorf("the script gave (-rewrite keeps it):\n%s", got)
	}
}

// script is one log being written.
type script struct {
	state *State
	index uint64
}

// args are the words of a line: key=value, or bare.
type args struct {
	t     *testing.T
	name  string
	bare  []string
	named map[string]string
}

func (a args) int(key string) int64 {
	a.t.Helper()
	v, err := strconv.ParseInt(a.named[key], 0, 64)
	if err != nil {
		a.t.Fatalf("%s: %s: %v", a.name, key, err)
	}
	return v
}

func (a args) intOr(key string, otherwise int64) int64 {
	if _, given := a.named[key]; !given {
		return otherwise
	}
	return a.int(key)
}

// partition reads topic-partition, and what comes behind a colon. A word without one is
// returned as it is.
func (a args) partition(word string) (topic []byte, partition int32, rest string) {
	a.t.Helper()
	name, rest, is := strings.Cut(word, ":")
	if !is {
		return nil, 0, word
	}
	var letter string
	a.scan(name, "%1s-%d", &letter, &partition)
	return []byte(strings.Repeat(letter, 16)), partition, rest
}

// alterPartitions reads the broker, and for each partition topic-partition:leader
// epoch/partition epoch/ISR. A broker of the ISR has the epoch it is registered with,
// unless #epoch says another.
func (a args) alterPartitions(image *Image) *pb.AlterPartitions {
	a.t.Helper()
	id := a.ints(a.bare[0])[0]
	c := &pb.AlterPartitions{BrokerId: id, BrokerEpoch: a.intOr("epoch", epochOf(image, id))}
	for _, word := range a.bare[1:] {
		e := &pb.AlterPartitions_Entry{}
		var is, isr string
		e.TopicId, e.Partition, is = a.partition(word)
		a.scan(is, "%d/%d/%s", &e.LeaderEpoch, &e.PartitionEpoch, &isr)
		for replica := range strings.SplitSeq(isr, ",") {
			name, epoch, given := strings.Cut(replica, "#")
			r := &pb.AlterPartitions_Replica{BrokerId: a.ints(name)[0]}
			if r.BrokerEpoch = epochOf(image, r.BrokerId); given {
				r.BrokerEpoch = int64(a.ints(epoch)[0])
			}
			e.Isr = append(e.Isr, r)
		}
		c.Entries = append(c.Entries, e)
	}
	return c
}

// epochOf returns the epoch that a broker is registered with.
func epochOf(image *Image, id int32) int64 {
	if b, ok := image.Broker(id); ok {
		return b.Epoch
	}
	return 0
}

// id16 repeats a letter 16 times.
func (a args) id16(key string) []byte { return []byte(strings.Repeat(a.named[key], 16)) }

func (a args) ints(list string) []int32 {
	var ids []int32
	for s := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			a.t.Fatalf("%s: %v", a.name, err)
		}
		ids = append(ids, int32(id))
	}
	return ids
}

func (a args) assignments() []*pb.Assignment {
	var list []*pb.Assignment
	for s := range strings.SplitSeq(a.named["on"], "/") {
		list = append(list, &pb.Assignment{Replicas: a.ints(s)})
	}
	return list
}

func (a args) scan(word, format string, into ...any) {
	a.t.Helper()
	if n, err := fmt.Sscanf(word, format, into...); err != nil || n != len(into) {
		a.t.Fatalf("%s: %q is not %q: %v", a.name, word, format, err)
	}
}

func (a args) objectIDs() (ids []uint64) {
	for _, word := range a.bare {
		for _, id := range a.ints(word) {
			ids = append(ids, uint64(id))
		}
	}
	return ids
}

// partitionRange reads topic-partition@epoch:base-end, with as many bytes as it
// has offsets unless they are given (/bytes); its index is the object's last
// byte.
func (a args) partitionRange(word string) PartitionRange {
	a.t.Helper()
	word, bytes, given := strings.Cut(word, "/")
	var topic string
	var r PartitionRange
	a.scan(word, "%1s-%d@%d:%d-%d", &topic, &r.Partition.Index, &r.Range.Epoch, &r.Range.Base, &r.Range.End)
	copy(r.Partition.Topic[:], strings.Repeat(topic, 16))
	r.Range.Bytes = int64(r.Range.End - r.Range.Base)
	if given {
		r.Range.Bytes = int64(a.ints(bytes)[0])
	}
	r.Range.MaxTimestamp = int64(r.Range.End) * 10
	r.Range.IndexPosition, r.Range.IndexLength = a.int("size")-1, 1
	return r
}

// replacement reads a range with what it takes the place of behind "<": objects
// and ends, object/end,object/end.
func (a args) replacement(word string) Replacement {
	a.t.Helper()
	word, removed, _ := strings.Cut(word, "<")
	r := Replacement{PartitionRange: a.partitionRange(word)}
	base := r.Range.Base
	for one := range strings.SplitSeq(removed, ",") {
		gone := RemovedRange{Base: base}
		var object uint64
		a.scan(one, "%d/%d", &object, &gone.End)
		gone.Object = storage.ObjectID(object)
		r.Removed = append(r.Removed, gone)
		base = gone.End
	}
	return r
}

// quota reads user=…, client=… and ip=…, "*" the default, with keys to set, key:rate, and
// to remove, -key.
func (a args) quota() *pb.AlterClientQuotas {
	a.t.Helper()
	half := func(key string) QuotaName {
		switch name, ok := a.named[key]; {
		case !ok:
			return QuotaName{}
		case name == "*":
			return QuotaName{Scope: QuotaDefault}
		default:
			return QuotaName{Scope: QuotaNamed, Name: name}
		}
	}
	set, remove := map[string]float64{}, []string(nil)
	for _, word := range a.bare {
		key, rate, isSet := strings.Cut(word, ":")
		if !isSet {
			remove = append(remove, strings.TrimPrefix(key, "-"))
			continue
		}
		f, err := strconv.ParseFloat(rate, 64)
		if err != nil {
			a.t.Fatal(err)
		}
		set[key] = f
	}
	return NewAlterClientQuotas(QuotaEntity{User: half("user"), ClientID: half("client"), IP: half("ip")}, set, remove)
}

func (s *script) run(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	a := args{t: t, name: words[0], named: map[string]string{}}
	for _, w := range words[1:] {
		if key, value, ok := strings.Cut(w, "="); ok {
			a.named[key] = value
		} else {
			a.bare = append(a.bare, w)
		}
	}
	var body proto.Message
	image := s.state.Image()
	switch a.name {
	case "init":
		body = &pb.InitCluster{ClusterId: a.bare[0], FeatureLevel: uint32(a.int("level"))}
	case "level":
		body = &pb.SetFeatureLevel{Level: uint32(a.int("to"))}
	case "register":
		body = &pb.RegisterBroker{
			BrokerId: a.ints(a.bare[0])[0], Incarnation: a.id16("start"), Directory: a.id16("dir"), Rack: a.named["rack"], BucketNonce: a.id16("bucket"),
			MaxFeatureLevel: uint32(a.intOr("knows", 0)), UncleanEnd: slices.Contains(a.bare, "unclean"), AcksBeforeSync: slices.Contains(a.bare, "acks-early"),
		}
	case "fence", "unfence":
		id := a.ints(a.bare[0])[0]
		body = &pb.FenceBroker{BrokerId: id, BrokerEpoch: a.intOr("epoch", epochOf(image, id)), Fenced: a.name == "fence"}
	case "create":
		create := &pb.CreateTopic{TopicId: a.id16("id"), Name: a.bare[0], Assignments: a.assignments()}
		if v, ok := a.named["min"]; ok {
			create.Configs = []*pb.ConfigEntry{{Key: minInsyncReplicas, Value: v}}
		}
		if v, ok := a.named["durability"]; ok {
			create.Configs = append(create.Configs, &pb.ConfigEntry{Key: durability, Value: v})
		}
		body = create
	case "delete":
		body = &pb.DeleteTopic{TopicId: a.id16("id")}
	case "partitions":
		body = &pb.CreatePartitions{TopicId: a.id16("id"), Existing: int32(a.int("existing")), Assignments: a.assignments()}
	case "alter":
		alter := &pb.AlterConfigs{ResourceType: int32(a.int("type")), Name: a.named["name"], Version: uint64(a.int("version"))}
		if v, ok := a.named["set"]; ok {
			key, value, _ := strings.Cut(v, ":")
			alter.Set = []*pb.ConfigEntry{{Key: key, Value: value}}
		}
		if v, ok := a.named["remove"]; ok {
			alter.Remove = []string{v}
		}
		body = alter
	case "logstart":
		body = &pb.AdvanceLogStart{BrokerId: a.ints(a.bare[0])[0], BrokerEpoch: a.int("epoch"), Entries: []*pb.AdvanceLogStart_Entry{{
			TopicId: a.id16("id"), Partition: int32(a.int("p")), LeaderEpoch: int32(a.int("leader-epoch")), Offset: a.int("to"),
		}}}
	case "producers":
		body = &pb.AllocateProducerIds{BrokerId: a.ints(a.bare[0])[0], BrokerEpoch: a.int("epoch"), Count: int32(a.int("count"))}
	case "bucket":
		body = &pb.SetBucket{Nonce: a.id16("nonce"), Incarnation: uint64(a.int("incarnation"))}
	case "prepare":
		body = &pb.PrepareObjects{BrokerId: a.ints(a.bare[0])[0], BrokerEpoch: a.int("epoch"), Count: uint32(a.int("count"))}
	case "commit":
		var ranges []PartitionRange
		for _, word := range a.bare[1:] {
			ranges = append(ranges, a.partitionRange(word))
		}
		body = NewCommitObject(a.ints(a.bare[0])[0], a.int("epoch"), storage.ObjectID(a.int("id")), a.int("size"), ranges)
	case "replace":
		var replacements []Replacement
		for _, word := range a.bare[1:] {
			replacements = append(replacements, a.replacement(word))
		}
		body = NewReplaceRanges(a.ints(a.bare[0])[0], a.int("epoch"), storage.ObjectID(a.int("id")), a.int("size"), replacements)
	case "condemn":
		body = &pb.CondemnObjects{ObjectIds: a.objectIDs()}
	case "forget":
		body = &pb.ForgetObjects{ObjectIds: a.objectIDs()}
	case "retain":
		move := &pb.MoveLogStarts{}
		for _, word := range a.bare {
			var topic string
			var partition int32
			var offset int64
			a.scan(word, "%1s-%d:%d", &topic, &partition, &offset)
			move.Topics = append(move.Topics, &pb.MoveLogStarts_Topic{TopicId: []byte(strings.Repeat(topic, 16)), Partitions: []int32{partition}, Offsets: []int64{offset}})
		}
		body = move
	case "quota":
		body = a.quota()
	case "announce":
		body = &pb.AnnounceEntry{Number: uint64(a.int("number")), Term: uint64(a.int("term")), Writer: uint64(a.int("writer"))}
	case "show":
		return show(image)
	case "controller":
		body = &pb.RegisterController{NodeId: uint64(a.ints(a.bare[0])[0]), Directory: a.id16("dir"), RaftAddress: a.named["raft"], ControllerAddress: a.named["at"], MaxFeatureLevel: uint32(a.int("knows"))}
	case "uncontroller":
		body = &pb.UnregisterController{NodeId: uint64(a.ints(a.bare[0])[0])}
	case "isr":
		body = a.alterPartitions(image)
	case "elect":
		elect := &pb.ElectLeaders{}
		for _, word := range a.bare {
			id, partition, to := a.partition(word)
			if to != "unclean" {
				elect.Entries = append(elect.Entries, &pb.ElectLeaders_Entry{TopicId: id, Partition: partition, Leader: a.ints(to)[0], Unclean: slices.Contains(a.bare, "unclean")})
			}
		}
		body = elect
	case "reassign":
		reassign := &pb.ReassignPartitions{}
		for _, word := range a.bare {
			e := &pb.ReassignPartitions_Entry{}
			var to string
			if e.TopicId, e.Partition, to = a.partition(word); to != "" {
				e.Replicas = a.ints(to)
			}
			reassign.Entries = append(reassign.Entries, e)
		}
		body = reassign
	case "drain", "undrain":
		body = &pb.ChangeBroker{BrokerId: a.ints(a.bare[0])[0], Draining: a.name == "drain"}
	case "unregister":
		body = &pb.UnregisterBroker{BrokerId: a.ints(a.bare[0])[0]}
	default:
		t.Fatalf("unknown command %q", line)
	}
	s.index++
	result, err := s.state.Apply(s.index, mustCommand(t, body))
	if err != nil {
		return "stopped: " + err.Error()
	}
	if result == nil {
		return fmt.Sprintf("%d: ok", s.index)
	}
	each, ok := result.(PartitionResults)
	if !ok || len(each) == 1 {
		return fmt.Sprintf("%d: %v", s.index, result)
	}
	lines := fmt.Sprintf("%d:", s.index)
	for _, err := range each {
		lines += fmt.Sprintf("\n  %v", err)
	}
	return lines
}

// mustCommand encodes a command whatever the feature level says of it.
func mustCommand(t testing.TB, body proto.Message) []byte {
	t.Helper()
	command, err := Encode(&Image{clusterID: "any", featureLevel: 1 << 30}, body)
	if err != nil {
		t.Fatalf("encode %v: %v", body, err)
	}
	return command
}

// show prints an image, everything in it.
func show(m *Image) string {
	var b strings.Builder
	fmt.Fprintf(&b, "offset %d cluster %q level %d next producer id %d, %d partitions", m.offset, m.clusterID, m.featureLevel, m.nextProducerID, m.partitions)
	for r := range m.Brokers() {
		fmt.Fprintf(&b, "\nbroker %d epoch %d start %s dir %s fenced %v", r.ID, r.Epoch, r.Incarnation[:1], r.Directory[:1], r.Fenced)
		if r.Draining {
			b.WriteString(", draining")
		}
		if r.MaxFeatureLevel > 0 {
			fmt.Fprintf(&b, ", knows level %d", r.MaxFeatureLevel)
		}
	}
	for c := range m.Controllers() {
		fmt.Fprintf(&b, "\ncontroller %d dir %s, raft %s, at %s, knows level %d", c.ID, c.Directory[:1], c.Raft, c.Controller, c.MaxFeatureLevel)
	}
	for r, c := range m.configs.all() {
		fmt.Fprintf(&b, "\n%s %q version %d %s", r.Type, r.Name, c.Version, sorted(c.Values))
	}
	for q := range m.ClientQuotas() {
		fmt.Fprintf(&b, "\nquotas of %s: %v", q.Entity, q.Rates)
	}
	for r := range m.ACLs() {
		fmt.Fprintf(&b, "\n%s", r)
	}
	for t := range m.Topics() {
		fmt.Fprintf(&b, "\ntopic %s id %s version %d %s", t.Name, t.ID[:1], t.ConfigVersion, sorted(t.Configs))
		for p := range t.Partitions.All() {
			fmt.Fprintf(&b, "\n  %d: leader %d epoch %d, partition epoch %d, replicas %v isr %v elr %v, log start %d",
				p.Index, p.Leader, p.LeaderEpoch, p.PartitionEpoch, p.Replicas, p.ISR, p.ELR, p.LogStart)
			if len(p.Adding)+len(p.Removing) > 0 {
				fmt.Fprintf(&b, ", adding %v removing %v", p.Adding, p.Removing)
			}
			for r := range p.Ranges().All() {
				fmt.Fprintf(&b, "\n     [%d, %d) in %d, epoch %d, %d bytes, time %d, index %d+%d crc %x, aborts %v, open %v",
					r.Base, r.End, uint64(r.Object), r.Epoch, r.Bytes, r.MaxTimestamp, r.IndexPosition, r.IndexLength, r.IndexCRC, r.HasAborts, r.OpenTransactions)
			}
		}
	}
	for of, is := range m.Manifests() {
		_, dying := m.dying.get(is.ID)
		fmt.Fprintf(&b, "\nmanifest %d of %s: %+v, dying %v", uint64(is.ID), of, *is, dying)
	}
	if bucket, set := m.Bucket(); set {
		fmt.Fprintf(&b, "\nbucket %s incarnation %d", bucket.Nonce[:1], bucket.Incarnation)
	}
	if m.announced.number > 0 {
		fmt.Fprintf(&b, "\nentry %d announced by %v", m.announced.number, m.announced.writers)
	}
	if m.lastObjectID > 0 {
		fmt.Fprintf(&b, "\nnext object %d; %d ranges, %d bytes live, of %d", uint64(m.NextObjectID()), m.NumRanges(), m.LiveBytes(), m.ObjectBytes(Committed))
	}
	for o := range m.Objects() {
		fmt.Fprintf(&b, "\nobject %d %s since %d, broker %d epoch %d, size %d, %d ranges with %d bytes, mixed %v",
			uint64(o.ID), o.State, o.Since, o.Broker, o.BrokerEpoch, o.Size, o.Ranges, o.LiveBytes, o.Mixed)
		if o.Manifest {
			b.WriteString(", a manifest")
		}
	}
	return b.String()
}

func sorted(values map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		pairs = append(pairs, key+"="+values[key])
	}
	return "[" + strings.Join(pairs, " ") + "]"
}

func testID(b byte) (id storage.TopicID) {
	for i := range id {
		id[i] = b
	}
	return id
}
