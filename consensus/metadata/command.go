package metadata

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
	"rustmq.dev/rustmq/storage/guard"
)

// Limits of what one command may hold: a log entry is kept in memory until the
// next snapshot, and sent to the other controllers as one message.
const (
	MaxCommandBytes       = 2 << 20
	MaxPartitionsPerTopic = 100_000
	MaxReplicas           = 64
	maxConfigBytes        = 64 << 10 // of one key or value
	maxNameBytes          = 512      // of a host, rack or listener name
)

// Encode returns the bytes of a command whose body is one of the messages of
// command.proto, to be proposed. It refuses what the feature level of image
// does not allow to be written yet.
func Encode(image *Image, body proto.Message) ([]byte, error) {
	var c pb.Command
	switch b := body.(type) {
	case *pb.InitCluster:
		c.Body = &pb.Command_InitCluster{InitCluster: b}
	case *pb.SetFeatureLevel:
		c.Body = &pb.Command_SetFeatureLevel{SetFeatureLevel: b}
	case *pb.RegisterBroker:
		c.Body = &pb.Command_RegisterBroker{RegisterBroker: b}
	case *pb.FenceBroker:
		c.Body = &pb.Command_FenceBroker{FenceBroker: b}
	case *pb.CreateTopic:
		c.Body = &pb.Command_CreateTopic{CreateTopic: b}
	case *pb.DeleteTopic:
		c.Body = &pb.Command_DeleteTopic{DeleteTopic: b}
	case *pb.CreatePartitions:
		c.Body = &pb.Command_CreatePartitions{CreatePartitions: b}
	case *pb.AlterConfigs:
		c.Body = &pb.Command_AlterConfigs{AlterConfigs: b}
	case *pb.AdvanceLogStart:
		c.Body = &pb.Command_AdvanceLogStart{AdvanceLogStart: b}
	case *pb.AllocateProducerIds:
		c.Body = &pb.Command_AllocateProducerIds{AllocateProducerIds: b}
	case *pb.SetBucket:
		c.Body = &pb.Command_SetBucket{SetBucket: b}
	case *pb.PrepareObjects:
		c.Body = &pb.Command_PrepareObjects{PrepareObjects: b}
	case *pb.CommitObject:
		c.Body = &pb.Command_CommitObject{CommitObject: b}
	case *pb.ReplaceRanges:
		c.Body = &pb.Command_ReplaceRanges{ReplaceRanges: b}
	case *pb.CondemnObjects:
		c.Body = &pb.Command_CondemnObjects{CondemnObjects: b}
	case *pb.ForgetObjects:
		c.Body = &pb.Command_ForgetObjects{ForgetObjects: b}
	case *pb.MoveLogStarts:
		c.Body = &pb.Command_MoveLogStarts{MoveLogStarts: b}
	case *pb.FileRanges:
		c.Body = &pb.Command_FileRanges{FileRanges: b}
	case *pb.DissolveManifest:
		c.Body = &pb.Command_DissolveManifest{DissolveManifest: b}
	case *pb.RecordCleaning:
		c.Body = &pb.Command_RecordCleaning{RecordCleaning: b}
	case *pb.AlterClientQuotas:
		c.Body = &pb.Command_AlterClientQuotas{AlterClientQuotas: b}
	case *pb.AnnounceEntry:
		c.Body = &pb.Command_AnnounceEntry{AnnounceEntry: b}
	case *pb.RegisterController:
		c.Body = &pb.Command_RegisterController{RegisterController: b}
	case *pb.UnregisterController:
		c.Body = &pb.Command_UnregisterController{UnregisterController: b}
	case *pb.AlterPartitions:
		c.Body = &pb.Command_AlterPartitions{AlterPartitions: b}
	case *pb.ElectLeaders:
		c.Body = &pb.Command_ElectLeaders{ElectLeaders: b}
	case *pb.ReassignPartitions:
		c.Body = &pb.Command_ReassignPartitions{ReassignPartitions: b}
	case *pb.ChangeBroker:
		c.Body = &pb.Command_ChangeBroker{ChangeBroker: b}
	case *pb.UnregisterBroker:
		c.Body = &pb.Command_UnregisterBroker{UnregisterBroker: b}
	case *pb.ReportEnds:
		c.Body = &pb.Command_ReportEnds{ReportEnds: b}
	case *pb.EndLife:
		c.Body = &pb.Command_EndLife{EndLife: b}
	case *pb.AlterUsers:
		c.Body = &pb.Command_AlterUsers{AlterUsers: b}
	case *pb.GiveUpReplicas:
		c.Body = &pb.Command_GiveUpReplicas{GiveUpReplicas: b}
	case *pb.CreateAcls:
		c.Body = &pb.Command_CreateAcls{CreateAcls: b}
	case *pb.DeleteAcls:
		c.Body = &pb.Command_DeleteAcls{DeleteAcls: b}
	case *pb.CreateApiToken:
		c.Body = &pb.Command_CreateApiToken{CreateApiToken: b}
	case *pb.DeleteApiToken:
		c.Body = &pb.Command_DeleteApiToken{DeleteApiToken: b}
	case *pb.DeployTransform:
		c.Body = &pb.Command_DeployTransform{DeployTransform: b}
	case *pb.SetTransform:
		c.Body = &pb.Command_SetTransform{SetTransform: b}
	case *pb.DeleteTransform:
		c.Body = &pb.Command_DeleteTransform{DeleteTransform: b}
	case *pb.CollectModules:
		c.Body = &pb.Command_CollectModules{CollectModules: b}
	default:
		panic(fmt.Sprintf("metadata: %T is no command", body))
	}
	if refused := checkLevel(image, &c); refused != nil {
		return nil, refused
	}
	encoded, err := proto.Marshal(&c)
	if err != nil {
		return nil, Errorf(InvalidRequest, "encode %T: %v", body, err) // a string that is not UTF-8
	}
	if len(encoded) > MaxCommandBytes {
		return nil, Errorf(InvalidRequest, "the change takes %d bytes as one command, more than %d", len(encoded), MaxCommandBytes)
	}
	return encoded, nil
}

// decode returns the command of that log entry. Whatever this binary does not
// know in it, a command or a field of one, stops the node: the others may have
// acted upon it.
func decode(index uint64, encoded []byte) (*pb.Command, *StopError) {
	var c pb.Command
	if err := proto.Unmarshal(encoded, &c); err != nil {
		return nil, &StopError{Index: index, Reason: "undecodable command: " + err.Error()}
	}
	unknown := unknownField(c.ProtoReflect())
	if unknown == "" && c.Body == nil {
		unknown = "command without a body"
	}
	if !guard.Check("metadata.unknown-command", unknown == "") {
		return nil, &StopError{Index: index, Reason: "this binary does not know " + unknown + "; run the version that wrote it, or a later one"}
	}
	return &c, nil
}

// unknownField names the first field in m, at any depth, that its descriptor
// lacks; empty when there is none.
func unknownField(m protoreflect.Message) (found string) {
	if raw := m.GetUnknown(); len(raw) > 0 {
		return fmt.Sprintf("a field of %s (%d bytes)", m.Descriptor().Name(), len(raw))
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil {
			return true
		}
		if !f.IsList() {
			found = unknownField(v.Message())
			return found == ""
		}
		for i := 0; i < v.List().Len() && found == ""; i++ {
			found = unknownField(v.List().Get(i).Message())
		}
		return found == ""
	})
	return found
}
