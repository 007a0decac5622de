package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// ErrUnfit says that a delta does not begin at the image that a view has, is another
// broker's, or comes to one before it. Nothing is wrong with either: a view goes on
// with a delta that is whole.
var ErrUnfit = errors.New("the delta does not fit the image")

// View is the image of a cluster as one broker is shown it, made of deltas.
//
// It has everything that [Image] tells, but for this. Ranges, manifests and the state of
// compaction by key are there for partitions that the broker is a replica of: others have
// none, and their CommittedEnd is the log start. Object and Objects know the objects that
// those ranges and manifests name; NumObjects, ObjectBytes, NumRanges, LiveBytes,
// FiledRanges and NumManifests count those of the whole cluster. Manifests walks those of
// the broker's partitions, Dying none. Of entries of the metadata log in the bucket it
// knows nothing. Such an image is for reading: Snapshot and Check are for whole ones.
//
// Image may be called by any goroutine, Apply by one at a time.
type View struct {
	image  atomic.Pointer[Image]
	begun  bool
	broker int32
	named  map[storage.ObjectID]int // by how many ranges and manifests of the image
}

// NewView returns a view that has been given nothing: its first delta is a whole one,
// which also says whose slice it is.
func NewView() *View {
	v := &View{broker: NoBroker, named: map[storage.ObjectID]int{}}
	v.image.Store(emptyImage())
	return v
}

// Image returns the image that the last delta came to.
func (v *View) Image() *Image { return v.image.Load() }

// Apply goes on to the image that a delta comes to. With an error it stays where it
// was: [ErrUnfit]; [*CorruptionError] for bytes that EncodeDelta did not write;
// [*StopError] for those of a later version. It keeps nothing of delta, and takes a
// small multiple of its length in memory, beside what it holds already.
func (v *View) Apply(delta []byte) error {
	d, err := openDelta(delta)
	if err != nil {
		return err
	}
	r, err := d.nextDelta()
	if err != nil {
		return err
	}
	h := r.GetHeader()
	if h == nil {
		return d.corrupt("the first record is no header")
	}
	if err := v.fits(h); err != nil {
		return err
	}
	e, err := v.edit(d, h)
	if err != nil {
		return err
	}
	for len(d.rest) > 0 {
		r, err := d.nextDelta()
		if err != nil {
			return err
		}
		if err := e.apply(r); err != nil {
			return err
		}
	}
	if err := e.end(h); err != nil {
		return err
	}
	for id, n := range e.moved {
		if n += e.named[id]; n == 0 {
			delete(e.named, id)
		} else {
			e.named[id] = n
		}
	}
	v.begun, v.broker, v.named = true, h.Broker, e.named
	v.image.Store(e.m)
	return nil
}

// fits refuses a delta that does not begin where the view is, and one that leads back.
func (v *View) fits(h *pb.DeltaHeader) error {
	m := v.image.Load()
	switch {
	case !v.begun && !h.Whole:
		return fmt.Errorf("%w: it begins at %d, and there is none yet", ErrUnfit, h.Before)
	case !guard.Check("metadata.delta-cluster", m.clusterID == "" || h.ClusterId == m.clusterID && h.BucketIncarnation >= m.bucket.Incarnation):
		return fmt.Errorf("%w: it is of cluster %s, incarnation %d; the image is of %s, incarnation %d", ErrUnfit, quoted(h.ClusterId), h.BucketIncarnation, quoted(m.clusterID), m.bucket.Incarnation)
	case !h.Whole && !guard.Check("metadata.delta-broker", h.Broker == v.broker):
		return fmt.Errorf("%w: it is the slice of broker %d, not %d", ErrUnfit, h.Broker, v.broker)
	case !h.Whole && !guard.Check("metadata.delta-begins-at-image", h.Before == m.offset):
		return fmt.Errorf("%w: it begins at %d, the image stands at %d", ErrUnfit, h.Before, m.offset)
	case h.BucketIncarnation == m.bucket.Incarnation && !guard.Check("metadata.delta-forward", h.Offset >= m.offset):
		return fmt.Errorf("%w: it comes to %d, the image stands at %d", ErrUnfit, h.Offset, m.offset)
	}
	return nil
}

// openDelta checks the frame of a delta.
func openDelta(b []byte) (*decoder, error) {
	const versionAt = len(deltaMagic) - 1
	switch {
	case len(b) < deltaHeaderSize:
		return nil, &CorruptionError{Reason: fmt.Sprintf("%d bytes are no delta", len(b))}
	case string(b[:versionAt]) != deltaMagic[:versionAt]:
		return nil, &CorruptionError{Reason: "no delta: wrong magic"}
	case !guard.Check("metadata.delta-crc", deltaCRC(b) == binary.LittleEndian.Uint32(b[8:])):
		return nil, &CorruptionError{Offset: 8, Reason: "a delta whose checksum differs"}
	case b[versionAt] != deltaMagic[versionAt]:
		return nil, &StopError{Reason: fmt.Sprintf("delta of version %d: this binary reads %d", b[versionAt], deltaMagic[versionAt])}
	case binary.LittleEndian.Uint32(b[12:]) != 0 || binary.LittleEndian.Uint64(b[16:]) != uint64(len(b)-deltaHeaderSize):
		return nil, &CorruptionError{Offset: 12, Reason: fmt.Sprintf("a delta whose header does not fit its %d bytes", len(b))}
	}
	return &decoder{rest: b[deltaHeaderSize:], offset: deltaHeaderSize}, nil
}

// deltaRecordLimits bounds records by their kind: messages within one take many times
// their bytes when they are read, and none of these needs more.
var deltaRecordLimits = map[protowire.Number]int{
	1:  4 << 10,  // header
	2:  64 << 10, // broker: 32 listeners with names of 512 bytes
	5:  4 << 10,  // client quotas
	10: 256,      // manifest
	11: 256,      // cleaning
	13: 4 << 10,  // controller: two addresses of 512 bytes

	115: 4 << 10, // ACL: a name and a principal of 1 KiB
	116: 4 << 10,
	110: 4 << 10, // user: two credentials
	125: 4 << 10, // API token: a name and a principal of 1 KiB
	126: 1 << 10,
	135: maxTransformBytes,
	136: 1 << 10,
}

func (d *decoder) nextDelta() (*pb.DeltaRecord, error) {
	record, err := d.frame()
	if err != nil {
		return nil, err
	}
	kind, _, width := protowire.ConsumeTag(record)
	if limit, bounded := deltaRecordLimits[kind]; width < 0 || bounded && !guard.Check("metadata.delta-record-limit", len(record) <= limit) {
		return nil, d.corrupt("a record of kind %d with %d bytes", kind, len(record))
	}
	r := new(pb.DeltaRecord)
	if err := proto.Unmarshal(record, r); err != nil {
		return nil, d.corrupt("undecodable record: %v", err)
	}
	if unknown := unknownField(r.ProtoReflect()); unknown != "" {
		return nil, &StopError{Reason: "this binary does not know " + unknown + " in a delta; run the version that wrote it, or a later one"}
	}
	return r, nil
}

// edit begins with the image that the delta changes: the view's, or the empty one.
func (v *View) edit(d *decoder, h *pb.DeltaHeader) (*viewEdit, error) {
	e := &viewEdit{
		d: d, broker: h.Broker, named: v.named,
		moved: map[storage.ObjectID]int{}, objects: map[storage.ObjectID]*Object{}, topics: map[storage.TopicID]*topicEdit{},
	}
	if h.Whole {
		e.m, e.named = emptyImage(), map[storage.ObjectID]int{}
	} else {
		changed := *v.image.Load()
		e.m = &changed
	}
	m := e.m
	if (h.BucketIncarnation > 0) != (len(h.BucketNonce) == len(m.bucket.Nonce)) || h.BucketIncarnation == 0 && len(h.BucketNonce) > 0 {
		return nil, d.corrupt("bucket nonce of %d bytes, incarnation %d", len(h.BucketNonce), h.BucketIncarnation)
	}
	if h.BucketIncarnation > 0 {
		m.bucket = Bucket{Nonce: [16]byte(h.BucketNonce), Incarnation: h.BucketIncarnation}
	}
	if len(h.Objects) != int(Condemned) || len(h.ObjectBytes) != int(Condemned) || h.LastObjectId > maxObjectID+MaxPreparedIDs {
		return nil, d.corrupt("objects in %d states, with %d sizes", len(h.Objects), len(h.ObjectBytes))
	}
	m.offset, m.clusterID, m.featureLevel, m.nextProducerID, m.controllerID = h.Offset, h.ClusterId, h.FeatureLevel, h.NextProducerId, h.ControllerId
	m.lastObjectID, m.endedBy = storage.ObjectID(h.LastObjectId), h.EndedBy
	if n := len(h.FakeSecret); n != 0 && n != fakeSecretSize {
		return nil, d.corrupt("a secret of %d bytes", n)
	}
	m.fakeSecret = h.FakeSecret
	m.ranges, m.liveBytes = int(h.Ranges), h.LiveBytes
	m.filed = filed{manifests: int(h.Manifests), ranges: int(h.FiledRanges), bytes: h.FiledBytes, objectBytes: h.FiledObjectBytes}
	copy(m.objectBytes[Prepared:], h.ObjectBytes)
	return e, nil
}

// viewEdit is one delta on its way into a view.
type viewEdit struct {
	d      *decoder
	m      *Image // a copy that nobody else sees
	broker int32
	named  map[storage.ObjectID]int // before the delta, read only
	moved  map[storage.ObjectID]int // what the delta adds to it

	objects map[storage.ObjectID]*Object // that the delta brings
	topics  map[storage.TopicID]*topicEdit
	order   []*topicEdit
}

func (e *viewEdit) apply(r *pb.DeltaRecord) error {
	switch body := r.Body.(type) {
	case *pb.DeltaRecord_Broker:
		b, ok := decodeBroker(body.Broker)
		if !ok || len(b.Listeners) > maxListeners {
			return e.d.corrupt("a broker out of bounds")
		}
		e.m.brokers = e.m.brokers.put(b.ID, b)
	case *pb.DeltaRecord_GoneBroker:
		e.m.brokers = e.m.brokers.without(body.GoneBroker)
	case *pb.DeltaRecord_Controller:
		n, refused := decodeController(body.Controller.NodeId, body.Controller.Directory, body.Controller.RaftAddress, body.Controller.ControllerAddress, body.Controller.MaxFeatureLevel)
		if refused != nil {
			return e.d.corrupt("%v", refused)
		}
		e.m.controllers = e.m.controllers.put(n.ID, n)
	case *pb.DeltaRecord_GoneController:
		e.m.controllers = e.m.controllers.without(body.GoneController)
	case *pb.DeltaRecord_Config:
		return e.config(body.Config)
	case *pb.DeltaRecord_ClientQuotas:
		return e.clientQuotas(body.ClientQuotas)
	case *pb.DeltaRecord_Acl:
		return e.acl(body.Acl, false)
	case *pb.DeltaRecord_GoneAcl:
		return e.acl(body.GoneAcl, true)
	case *pb.DeltaRecord_User:
		return e.user(body.User)
	case *pb.DeltaRecord_ApiToken:
		return e.apiToken(body.ApiToken)
	case *pb.DeltaRecord_GoneApiToken:
		e.m.tokens = e.m.tokens.without(body.GoneApiToken)
		return nil
	case *pb.DeltaRecord_Transform:
		return e.transform(body.Transform)
	case *pb.DeltaRecord_GoneTransform:
		e.m.transforms.names = e.m.transforms.names.without(body.GoneTransform)
		return nil
	case *pb.DeltaRecord_ConfigRevision:
		return e.configRevision(body.ConfigRevision)
	case *pb.DeltaRecord_GoneConfigRevision:
		e.m.revisions = e.m.revisions.without(body.GoneConfigRevision)
		return nil
	case *pb.DeltaRecord_Objects:
		objects, err := decodeObjects(body.Objects)
		if err != nil {
			return e.d.corrupt("%v", err)
		}
		for _, o := range objects {
			e.objects[o.ID] = o
		}
	case *pb.DeltaRecord_GoneTopic:
		return e.goneTopic(body.GoneTopic)
	case *pb.DeltaRecord_Topic:
		return e.topic(body.Topic)
	case *pb.DeltaRecord_Partitions:
		return e.partitions(body.Partitions)
	case *pb.DeltaRecord_Manifest:
		return e.manifest(body.Manifest)
	case *pb.DeltaRecord_Cleaning:
		return e.cleaning(body.Cleaning)
	case *pb.DeltaRecord_Ranges:
		return e.ranges(body.Ranges)
	default:
		return e.d.corrupt("a record of no kind, or a second header")
	}
	return nil
}

func (e *viewEdit) config(c *pb.DeltaConfig) error {
	r := Resource{Type: ResourceType(c.ResourceType), Name: c.Name}
	values, ok := unflatten(c.Entries)
	if !ok || !configured(c.ResourceType) || len(c.Name) > maxNameBytes {
		return e.d.corrupt("configuration of %s: out of bounds", quoted(c.Name))
	}
	if c.Gone {
		e.m.configs = e.m.configs.without(r)
		return nil
	}
	e.m.configs = e.m.configs.put(r, &ResourceConfig{Resource: r, Version: c.Version, Values: values})
	return nil
}

// unflatten reads what flatConfigs writes.
func unflatten(flat []string) (values map[string]string, ok bool) {
	if len(flat)%2 != 0 {
		return nil, false
	}
	values = map[string]string{}
	for i := 0; i < len(flat); i += 2 {
		if flat[i] == "" || len(flat[i]) > maxConfigBytes || len(flat[i+1]) > maxConfigBytes {
			return nil, false
		}
		values[flat[i]] = flat[i+1]
	}
	return values, true
}

func (e *viewEdit) clientQuotas(q *pb.SnapshotClientQuotas) error {
	entity, refused := decodeQuotaEntity(q.Entity)
	rates := map[string]float64{}
	if refused == nil {
		refused = setRates(entity, rates, q.Values)
	}
	switch {
	case refused != nil:
		return e.d.corrupt("client quotas of %s: %v", entity, refused)
	case len(rates) == 0:
		e.m.quotas = e.m.quotas.without(entity)
	default:
		e.m.quotas = e.m.quotas.put(entity, &ClientQuotas{Entity: entity, Rates: rates})
	}
	return nil
}

// end puts topics and objects into the image, and holds it against what the delta says
// of the whole.
func (e *viewEdit) end(h *pb.DeltaHeader) error {
	if err := e.endTopics(); err != nil {
		return err
	}
	m := e.m
	committed := m.objects[Committed]
	for id := range e.moved {
		if _, brought := e.objects[id]; !brought {
			e.objects[id], _ = committed.get(id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.objects)) {
		o := e.objects[id]
		switch named := e.named[id] + e.moved[id]; {
		case named == 0:
			committed = committed.without(id)
		case !guard.Check("metadata.delta-objects", o != nil && o.ID <= m.lastObjectID && o.Ranges >= named):
			return e.d.corrupt("%d ranges name object %s, which is not known, or has fewer", named, id)
		default:
			committed = committed.put(id, o)
		}
	}
	m.objects[Committed] = committed
	for state := Prepared; state <= Condemned; state++ {
		if m.unseen[state] = int(h.Objects[state-1]) - m.objects[state].len(); m.unseen[state] < 0 {
			return e.d.corrupt("%d %s objects, of %d", m.objects[state].len(), state, h.Objects[state-1])
		}
	}
	is := [...]uint64{uint64(m.brokers.len()), uint64(m.controllers.len()), uint64(m.acls.len()), uint64(m.NumAPITokens()), uint64(m.NumTransforms()), uint64(m.revisions.len()), uint64(m.topics.len()), uint64(m.partitions)}
	due := [...]uint64{h.Brokers, h.Controllers, h.Acls, h.ApiTokens, h.Transforms, h.ConfigRevisions, h.Topics, h.Partitions}
	if !guard.Check("metadata.delta-counts", is == due) {
		return e.d.corrupt("it comes to %v brokers, controllers, ACLs, API tokens, transforms, changes of configurations, topics and partitions, not %v", is, due)
	}
	return nil
}
