package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"rustmq.dev/rustmq/consensus/metadata"
)

// toldWait is how long a broker may take to say what is of its process: who asks looks at a page.
const toldWait = 3 * time.Second

// Told is what a broker says of its process.
type Told struct {
	Broker  int32
	Answer  json.RawMessage // as Options.Tell of that process has made it; nil: Unknown
	Unknown string          // why it does not say
}

// toldAsked is the body of peerTold.
type toldAsked struct {
	What string `json:"what"`
}

// Told asks all brokers in service at once for what is of their processes, and waits no longer
// than toldWait for any. What may be asked is for Options.Tell to say. The answers are in order
// of the brokers' ids.
func (b *Broker) Told(ctx context.Context, what string) []Told {
	return tellAll(ctx, b.images.image(), func(ctx context.Context, at int32) (json.RawMessage, error) {
		if at == b.opt.NodeID {
			return b.tell(ctx, toldAsked{what})
		}
		return askOwn[json.RawMessage](ctx, b, at, peerTold, toldAsked{what})
	})
}

// Told is as of [Broker.Told].
func (f *Front) Told(ctx context.Context, what string) []Told {
	return tellAll(ctx, f.image(), func(ctx context.Context, at int32) (json.RawMessage, error) {
		return askFor[json.RawMessage](ctx, f, at, peerTold, toldAsked{what})
	})
}

// tellAll has each broker in service asked, by ask.
func tellAll(ctx context.Context, image *metadata.Image, ask func(ctx context.Context, at int32) (json.RawMessage, error)) []Told {
	ctx, cancel := context.WithTimeout(ctx, toldWait)
	defer cancel()
	ids := inService(image)
	out := make([]Told, len(ids))
	var asking sync.WaitGroup // each writes its own answer
	for i, id := range ids {
		asking.Go(func() {
			answer, err := ask(ctx, id)
			if out[i] = (Told{Broker: id, Answer: answer}); err != nil {
				out[i].Answer, out[i].Unknown = nil, fmt.Sprintf("broker %d does not say: %v", id, err)
			}
		})
	}
	asking.Wait()
	return out
}

// tell says what is of this process.
func (b *Broker) tell(ctx context.Context, q toldAsked) (json.RawMessage, error) {
	if b.opt.Tell == nil {
		return nil, &GroupError{kerr.UnsupportedVersion, "it tells nothing of its process"}
	}
	answer, err := b.opt.Tell(ctx, q.What)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}
