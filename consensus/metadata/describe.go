package metadata

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "rustmq.dev/rustmq/consensus/metadata/metadatapb"
)

// Describe returns the name of an encoded command, as command.proto has it, and its body as
// JSON, without secrets. A command that this binary does not know, or cannot read, is an
// error.
func Describe(command []byte) (name string, body json.RawMessage, err error) {
	var c pb.Command
	if err := proto.Unmarshal(WithoutSecrets(command), &c); err != nil {
		return "", nil, fmt.Errorf("it is no command: %w", err)
	}
	m := c.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("body"))
	if field == nil {
		return "", nil, fmt.Errorf("it is a command that this binary does not know")
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Get(field).Message().Interface())
	return string(field.Name()), raw, err
}
