package metadata

import (
	"fmt"
	"sync/atomic"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage"
	"rustmq.dev/rustmq/storage/guard"
)

// State is the state machine of the metadata log.
type State struct {
	image   atomic.Pointer[Image]
	stopped bool // Apply has returned a StopError; guarded by its one caller
}

// NewState returns a state machine that has applied nothing.
func NewState() *State {
	s := new(State)
	s.image.Store(emptyImage())
	return s
}

// Image returns the state after the last command.
func (s *State) Image() *Image { return s.image.Load() }

// Results of commands; the others return nil.
type (
	// BrokerEpoch is the result of RegisterBroker.
	BrokerEpoch int64
	// ProducerIDs is the result of AllocateProducerIds.
	ProducerIDs struct {
		First int64
		Count int32
	}
	// LogStarts is the result of AdvanceLogStart and MoveLogStarts: nil or an
	// *Error for each entry.
	LogStarts []error
	// ObjectIDs is the result of PrepareObjects.
	ObjectIDs struct {
		First storage.ObjectID
		Count int
	}
	// RangeResults is the result of CommitObject and ReplaceRanges: nil or an
	// *Error for each range, in order of the command. Where all are errors the
	// object is condemned.
	RangeResults []error
	// ObjectCount is the result of CondemnObjects, ForgetObjects and
	// DissolveManifest: how many were.
	ObjectCount int
	// PartitionResults is the result of AlterPartitions, ElectLeaders,
	// ReassignPartitions, ReportEnds and GiveUpReplicas: nil or an *Error for each entry.
	PartitionResults []error
	// UserResults is the result of AlterUsers: nil or an *Error for each change.
	UserResults []error
	// EntryIndex is the result of AnnounceEntry: the index of the command.
	EntryIndex uint64
)

// Apply carries out the command of one log entry; indexes grow. The result is
// that of the command, or the *Error that refused it. An error is a
// [*StopError]: this node can follow no further.
func (s *State) Apply(index uint64, command []byte) (result any, err error) {
	was := s.image.Load()
	if s.stopped {
		return nil, &StopError{Index: index, Reason: "apply was called after it had stopped"}
	}
	stop := func(e *StopError) (any, error) {
		s.stopped = true
		return nil, e
	}
	if !guard.Check("metadata.apply-order", index > was.offset) {
		return stop(&StopError{Index: index, Reason: fmt.Sprintf("the image already stands at %d", was.offset)})
	}
	c, stopError := decode(index, command)
	if stopError != nil {
		return stop(stopError)
	}
	changed := *was
	result, refused := changed.apply(index, c)
	if refused != nil {
		changed, result = *was, refused
	}
	changed.offset = index
	if changed.featureLevel > LatestFeatureLevel {
		return stop(&StopError{Index: index, Reason: fmt.Sprintf("feature level %d: this binary knows %d at most", changed.featureLevel, LatestFeatureLevel)})
	}
	s.image.Store(&changed)
	return result, nil
}

// apply changes m, a copy that nobody else sees. What it leaves behind after a
// refusal is thrown away.
func (m *Image) apply(index uint64, c *pb.Command) (result any, refused *Error) {
	if refused := checkLevel(m, c); refused != nil {
		return nil, refused
	}
	if refused := m.checkLives(); refused != nil {
		return nil, refused
	}
	switch body := c.Body.(type) {
	case *pb.Command_InitCluster:
		return nil, m.initCluster(body.InitCluster)
	case *pb.Command_SetFeatureLevel:
		return nil, m.setFeatureLevel(body.SetFeatureLevel)
	case *pb.Command_RegisterBroker:
		return m.registerBroker(index, body.RegisterBroker)
	case *pb.Command_FenceBroker:
		return nil, m.fenceBroker(body.FenceBroker)
	case *pb.Command_CreateTopic:
		return nil, m.createTopic(index, body.CreateTopic)
	case *pb.Command_DeleteTopic:
		return nil, m.deleteTopic(index, body.DeleteTopic)
	case *pb.Command_CreatePartitions:
		return nil, m.createPartitions(body.CreatePartitions)
	case *pb.Command_AlterConfigs:
		return nil, m.alterConfigs(index, body.AlterConfigs)
	case *pb.Command_AdvanceLogStart:
		return m.advanceLogStart(index, body.AdvanceLogStart)
	case *pb.Command_AllocateProducerIds:
		return m.allocateProducerIDs(body.AllocateProducerIds)
	case *pb.Command_SetBucket:
		return nil, m.setBucket(body.SetBucket)
	case *pb.Command_PrepareObjects:
		return m.prepareObjects(index, body.PrepareObjects)
	case *pb.Command_CommitObject:
		return m.commitObject(index, body.CommitObject)
	case *pb.Command_ReplaceRanges:
		return m.replaceRanges(index, body.ReplaceRanges)
	case *pb.Command_CondemnObjects:
		return m.condemnObjects(index, body.CondemnObjects)
	case *pb.Command_ForgetObjects:
		return m.forgetObjects(body.ForgetObjects)
	case *pb.Command_MoveLogStarts:
		return m.moveLogStarts(index, body.MoveLogStarts)
	case *pb.Command_FileRanges:
		return m.fileRanges(index, body.FileRanges)
	case *pb.Command_DissolveManifest:
		return m.dissolveManifest(index, body.DissolveManifest)
	case *pb.Command_RecordCleaning:
		return nil, m.recordCleaning(index, body.RecordCleaning)
	case *pb.Command_AlterClientQuotas:
		return nil, m.alterClientQuotas(body.AlterClientQuotas)
	case *pb.Command_AlterUsers:
		return m.alterUsers(body.AlterUsers)
	case *pb.Command_AnnounceEntry:
		return m.announceEntry(index, body.AnnounceEntry)
	case *pb.Command_RegisterController:
		return nil, m.registerController(body.RegisterController)
	case *pb.Command_UnregisterController:
		return nil, m.unregisterController(body.UnregisterController)
	case *pb.Command_AlterPartitions:
		return m.alterPartitions(body.AlterPartitions)
	case *pb.Command_ElectLeaders:
		return m.electLeaders(body.ElectLeaders)
	case *pb.Command_ReassignPartitions:
		return m.reassignPartitions(body.ReassignPartitions)
	case *pb.Command_ChangeBroker:
		return nil, m.changeBroker(body.ChangeBroker)
	case *pb.Command_UnregisterBroker:
		return nil, m.unregisterBroker(body.UnregisterBroker)
	case *pb.Command_ReportEnds:
		return m.reportEnds(body.ReportEnds)
	case *pb.Command_EndLife:
		return nil, m.endLife(body.EndLife)
	case *pb.Command_GiveUpReplicas:
		return m.giveUpReplicas(body.GiveUpReplicas)
	case *pb.Command_CreateAcls:
		return nil, m.createACLs(body.CreateAcls)
	case *pb.Command_DeleteAcls:
		return nil, m.deleteACLs(body.DeleteAcls)
	case *pb.Command_CreateApiToken:
		return nil, m.createAPIToken(body.CreateApiToken)
	case *pb.Command_DeleteApiToken:
		return nil, m.deleteAPIToken(body.DeleteApiToken)
	case *pb.Command_DeployTransform:
		return nil, m.deployTransform(body.DeployTransform)
	case *pb.Command_SetTransform:
		return nil, m.setTransform(body.SetTransform)
	case *pb.Command_DeleteTransform:
		return nil, m.deleteTransform(body.DeleteTransform)
	case *pb.Command_CollectModules:
		return nil, m.collectModules(index, body.CollectModules)
	}
	return nil, Errorf(UnsupportedVersion, "command without a body")
}

func (m *Image) initCluster(c *pb.InitCluster) *Error {
	switch {
	case m.clusterID != "":
		return Errorf(InvalidRequest, "the cluster is %s already", m.clusterID)
	case c.ClusterId == "" || len(c.ClusterId) > maxNameBytes:
		return Errorf(InvalidRequest, "cluster id of %d bytes", len(c.ClusterId))
	case c.FeatureLevel < FirstFeatureLevel:
		return Errorf(InvalidUpdateVersion, "feature level %d", c.FeatureLevel)
	}
	m.clusterID, m.featureLevel = c.ClusterId, c.FeatureLevel
	return nil
}

func (m *Image) setFeatureLevel(c *pb.SetFeatureLevel) *Error {
	if c.Level < m.featureLevel {
		return Errorf(InvalidUpdateVersion, "feature level %d is below the cluster's %d; it never falls", c.Level, m.featureLevel)
	}
	if refused := m.checkKnown(c.Level); refused != nil {
		return refused
	}
	m.featureLevel = c.Level
	return nil
}

// checkKnown refuses a feature level that a registered node does not know, as far as
// nodes say what they know: below ClusterFeatureLevel there is but one.
func (m *Image) checkKnown(level uint32) *Error {
	if m.featureLevel < ClusterFeatureLevel || level == m.featureLevel {
		return nil
	}
	for c := range m.Controllers() {
		if !guard.Check("metadata.level-controllers-know", c.MaxFeatureLevel >= level) {
			return Errorf(UnsupportedVersion, "controller %d knows feature level %d at most", c.ID, c.MaxFeatureLevel)
		}
	}
	for b := range m.Brokers() {
		if !guard.Check("metadata.level-brokers-know", b.MaxFeatureLevel >= level) {
			return Errorf(UnsupportedVersion, "broker %d knows feature level %d at most", b.ID, b.MaxFeatureLevel)
		}
	}
	return nil
}

func (m *Image) allocateProducerIDs(c *pb.AllocateProducerIds) (any, *Error) {
	if refused := m.checkBrokerEpoch(c.BrokerId, c.BrokerEpoch); refused != nil {
		return nil, refused
	}
	if c.Count < 1 || m.nextProducerID > 1<<62 {
		return nil, Errorf(InvalidRequest, "%d producer ids asked for", c.Count)
	}
	block := ProducerIDs{First: m.nextProducerID, Count: c.Count}
	m.nextProducerID += int64(c.Count)
	return block, nil
}

// Refused returns the refusal that a result of Apply is, or nil.
func Refused(result any) error {
	if e, ok := result.(*Error); ok {
		return e
	}
	return nil
}

// Check reports why the command would be refused if it were the next of the
// log, nil if it would not. The image stays as it is.
func (m *Image) Check(command []byte) error {
	c, stop := decode(m.offset+1, command)
	if stop != nil {
		return stop
	}
	scratch := *m
	if _, refused := scratch.apply(m.offset+1, c); refused != nil {
		return refused
	}
	return nil
}
