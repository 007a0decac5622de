package rustmq

import (
	"encoding/json"
	"fmt"
)

// Codec turns values of a type into bytes and back. Implementations are safe for
// concurrent use. Decode may keep the bytes, and must not change them.
type Codec[T any] interface {
	Encode(T) ([]byte, error)
	Decode([]byte) (T, error)
}

// JSON is the codec of encoding/json.
func JSON[T any]() Codec[T] { return jsonCodec[T]{} }

type jsonCodec[T any] struct{}

func (jsonCodec[T]) Encode(v T) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec[T]) Decode(b []byte) (v T, err error) {
	err = json.Unmarshal(b, &v)
	return v, err
}

// Raw leaves values as they are.
func Raw() Codec[[]byte] { return raw{} }

type raw struct{}

func (raw) Encode(b []byte) ([]byte, error) { return b, nil }
func (raw) Decode(b []byte) ([]byte, error) { return b, nil }

// NewRecord makes a record of a value. key may be nil: such records go to whatever
// partition has room.
func NewRecord[T any](codec Codec[T], topic string, key []byte, value T) (*Record, error) {
	b, err := codec.Encode(value)
	if err != nil {
		return nil, fmt.Errorf("rustmq: encode a value for %s: %w", topic, err)
	}
	return &Record{Topic: topic, Key: key, Value: b}, nil
}
