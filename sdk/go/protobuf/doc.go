// Package protobuf is the codec of Protocol Buffers for rustmq's consumers and records. It
// is a package of its own so that programs that do not use it do not link it.
//
//	consumer, err := rustmq.NewConsumer(client, protobuf.Codec[*quakes.Quake](), options)
package protobuf
