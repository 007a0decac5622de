package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// makeTopic makes the topic of a load unless it is there, and returns how many
// partitions it has, and whether it was made. In a cluster the broker that is asked
// next may hear of a topic a moment after the one that made it: that is waited for.
func makeTopic(ctx context.Context, cl *kgo.Client, topic string, partitions int) (has int, made bool, err error) {
	_, err = kadm.NewClient(cl).CreateTopic(ctx, int32(partitions), -1, nil, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return 0, false, fmt.Errorf("make the topic %s: %w", topic, err)
	}
	made = err == nil
	heard, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for {
		has, err := partitionsOf(heard, cl, topic)
		switch {
		case err == nil && has > 0:
			return has, made, nil
		case err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition):
			return 0, made, fmt.Errorf("ask for the partitions of %s: %w", topic, err)
		case pause(heard, illPause) != nil:
			return 0, made, fmt.Errorf("topic %s was made, and a broker has not heard of it within %v: try again", topic, pingTimeout)
		}
	}
}

// partitionsOf asks a broker, and not what the client remembers.
func partitionsOf(ctx context.Context, cl *kgo.Client, topic string) (int, error) {
	ask := kmsg.NewPtrMetadataRequest()
	ask.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	answer, err := ask.RequestWith(ctx, cl)
	if err != nil {
		return 0, err
	}
	if len(answer.Topics) != 1 {
		return 0, kerr.UnknownTopicOrPartition
	}
	return len(answer.Topics[0].Partitions), kerr.ErrorForCode(answer.Topics[0].ErrorCode)
}
