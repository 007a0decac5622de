package metadata

import (
	"maps"

	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
)

// Difference is what has changed between two images, for the deltas of many brokers:
// what is the same in all of them is found and encoded once, and a delta costs what it
// says of the broker's own partitions. It does not change, and may be used by any
// goroutine. It holds on to both images.
type Difference struct {
	before, after *Image
	whole         bool

	body    []byte // what stands before the objects
	topics  []byte // and the heads of partitions
	objects map[storage.ObjectID]*Object
	tiers   map[int32][]tierChange // by the brokers that host the partition after it
	reset   bool                   // something is not continued: what topics say depends on the broker
}

// tierChange is a partition of which the place in the bucket may have changed.
type tierChange struct {
	topic   storage.TopicID
	was, is *Partition
}

// Compare returns what has changed between two images of one log, the later of which is
// after; a nil before is none at all. It costs what has changed.
func Compare(before, after *Image) *Difference {
	d := &Difference{before: before, after: after, objects: map[storage.ObjectID]*Object{}, tiers: map[int32][]tierChange{}}
	if d.whole = before == nil; d.whole {
		d.before = emptyImage()
	}
	d.registered(d.before)
	for was, is := range diff(d.before.topics, after.topics) {
		if was != nil && (is == nil || !was.continuedBy(is)) {
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneTopic{GoneTopic: was.ID[:]}})
			was = nil
		}
		if is != nil {
			d.tierChanges(was, is)
			d.topics = appendTopic(d.topics, was, is, func(*Partition, *Partition) bool { return false })
		}
	}
	for was, is := range diff(d.before.objects[Committed], after.objects[Committed]) {
		if was != nil && is != nil && *was != *is {
			d.objects[is.ID] = is // ranges of others may have gone: only the view knows if its own name it
		}
	}
	return d
}

// Delta is what [EncodeDelta] returns.
func (d *Difference) Delta(broker int32) []byte {
	header := d.after.deltaHeader(broker)
	header.Whole, header.Before = d.whole, d.before.offset
	e := deltaEncoder{after: d.after, objects: maps.Clone(d.objects)}
	for _, c := range d.tiers[broker] {
		e.tier(c.topic, c.was.asHostedBy(broker), c.is)
	}
	e.endRanges()
	topics := d.topics
	if d.reset {
		topics = d.topicsFor(broker)
	}
	b := make([]byte, deltaHeaderSize, deltaHeaderSize+256+len(d.body)+20*len(e.objects)+len(topics)+len(e.manifests)+len(e.cleanings)+len(e.ranges))
	b = appendRecord(b, &pb.DeltaRecord{Body: &pb.DeltaRecord_Header{Header: header}})
	b = append(b, d.body...)
	b = appendObjects(b, e.objects)
	for _, section := range [][]byte{topics, e.manifests, e.cleanings, e.ranges} {
		b = append(b, section...)
	}
	sealDelta(b)
	return b
}

// topicsFor is the topics section where some partition may have to be reset: only for
// brokers that had what is not continued.
func (d *Difference) topicsFor(broker int32) (b []byte) {
	for was, is := range diff(d.before.topics, d.after.topics) {
		if is == nil {
			continue
		}
		if was != nil && !was.continuedBy(is) {
			was = nil
		}
		b = appendTopic(b, was, is, func(was, is *Partition) bool {
			return is.hostedBy(broker) && was.asHostedBy(broker).resetBy(is)
		})
	}
	return b
}

func (d *Difference) put(r *pb.DeltaRecord) { d.body = appendRecord(d.body, r) }

// tierChanges notes, for each broker, partitions that it is told more of than their heads.
func (d *Difference) tierChanges(was, is *Topic) {
	changedPartitions(was, is, func(before, p *Partition, _ bool) {
		d.reset = d.reset || before.resetBy(p)
		same := before.tiered == p.tiered && before.cleaning == p.cleaning
		if p.tiered == nil && p.cleaning == nil && same {
			return
		}
		for _, broker := range p.Replicas {
			if !same || !before.hostedBy(broker) {
				d.tiers[broker] = append(d.tiers[broker], tierChange{is.ID, before, p})
			}
		}
	})
}

// changedPartitions calls yield with the partitions of a topic that are new or may have
// changed. A new one was an empty one before, and not known.
func changedPartitions(was, is *Topic, yield func(before, p *Partition, known bool)) {
	if was == nil {
		was = &Topic{}
	}
	var none Partition
	for of := range changedChunks(was.Partitions, is.Partitions) {
		old, chunk := of[0], of[1]
		for i := range chunk {
			if i < len(old) {
				yield(&old[i], &chunk[i], true)
			} else {
				yield(&none, &chunk[i], false)
			}
		}
	}
}

// appendTopic appends to b how a topic and the heads of its partitions have changed; a
// nil was is a new one. reset says which partitions begin anew in the bucket.
func appendTopic(b []byte, was, is *Topic, reset func(was, is *Partition) bool) []byte {
	if was == nil || was.ReplicasUnset != is.ReplicasUnset || was.ConfigVersion != is.ConfigVersion || !maps.Equal(was.Configs, is.Configs) {
		b = appendRecord(b, &pb.DeltaRecord{Body: &pb.DeltaRecord_Topic{Topic: &pb.DeltaTopic{
			Id: is.ID[:], Name: is.Name, Internal: is.Internal, ReplicasUnset: is.ReplicasUnset, ConfigVersion: is.ConfigVersion, Configs: flatConfigs(is.Configs),
		}}})
	}
	w := partitionsWriter{topic: is.ID}
	changedPartitions(was, is, func(before, p *Partition, known bool) {
		if again := reset(before, p); again || !known || !before.sameHead(p) {
			b = w.add(b, p, again)
		}
	})
	return w.end(b)
}

// asHostedBy returns p as a broker was shown it.
func (p *Partition) asHostedBy(broker int32) *Partition {
	if p.hostedBy(broker) {
		return p
	}
	return p.withoutBucket()
}

// registered appends what is neither of topics nor of the bucket.
func (d *Difference) registered(before *Image) {
	for was, is := range diff(before.brokers, d.after.brokers) {
		if is == nil {
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneBroker{GoneBroker: was.ID}})
			continue
		}
		if b := encodeBroker(is); was == nil || !proto.Equal(b, encodeBroker(was)) {
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Broker{Broker: b}})
		}
	}
	for was, is := range diff(before.controllers, d.after.controllers) {
		switch {
		case is == nil:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_GoneController{GoneController: was.ID}})
		case was == nil || *was != *is:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Controller{Controller: encodeController(is)}})
		}
	}
	for was, is := range diff(before.configs, d.after.configs) {
		if was != nil && is != nil && was.Version == is.Version && maps.Equal(was.Values, is.Values) {
			continue
		}
		c := &pb.DeltaConfig{Gone: is == nil}
		if is == nil {
			is = &ResourceConfig{Resource: was.Resource}
		}
		c.ResourceType, c.Name, c.Version, c.Entries = int32(is.Resource.Type), is.Resource.Name, is.Version, flatConfigs(is.Values)
		d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_Config{Config: c}})
	}
	for was, is := range diff(before.quotas, d.after.quotas) {
		if was != nil && is != nil && maps.Equal(was.Rates, is.Rates) {
			continue
		}
		if is == nil {
			is = &ClientQuotas{Entity: was.Entity}
		}
		d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_ClientQuotas{ClientQuotas: &pb.SnapshotClientQuotas{
			Entity: is.Entity.encode(), Values: encodeRates(is.Rates),
		}}})
	}
	d.acls(before)
	for was, is := range diff(before.users, d.after.users) {
		switch {
		case is == nil:
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_User{User: &pb.SnapshotUser{Name: was.Name}}})
		case was == nil || !was.equal(is):
			d.put(&pb.DeltaRecord{Body: &pb.DeltaRecord_User{User: encodeUser(is)}})
		}
	}
	d.apiTokens(before)
	d.transforms(before)
	d.configRevisions(before)
}
