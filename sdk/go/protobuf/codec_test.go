package protobuf_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"rustmq.dev/rustmq/sdk/go/protobuf"
)

func TestMessagesComeBack(t *testing.T) {
	codec := protobuf.Codec[*timestamppb.Timestamp]()
	sent := timestamppb.New(time.Unix(7, 9))
	b, err := codec.Encode(sent)
	if err != nil {
		t.Fatal(err)
	}
	got, err := codec.Decode(b)
	if err != nil || !got.AsTime().Equal(sent.AsTime()) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := codec.Decode([]byte{0xff}); err == nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
}
