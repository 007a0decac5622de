package protobuf

import (
	"google.golang.org/protobuf/proto"

	rustmq "rustmq.dev/rustmq/sdk/go"
)

// Codec encodes and decodes messages of type T, a pointer to a generated struct, in the binary format.
func Codec[T proto.Message]() rustmq.Codec[T] { return codec[T]{} }

type codec[T proto.Message] struct{}

func (codec[T]) Encode(m T) ([]byte, error) { return proto.Marshal(m) }

func (codec[T]) Decode(b []byte) (T, error) {
	var zero T
	m := zero.ProtoReflect().New().Interface().(T) // a nil message knows its type
	if err := proto.Unmarshal(b, m); err != nil {
		return zero, err
	}
	return m, nil
}
